"""What `participant` commands do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from fedstill.agent import approval, looking, staying, taking_part
from fedstill.agent.home import Home
from fedstill.agent.journal import LATE, WAITING, Journal
from fedstill.agent.limits import Hours, limit_memory
from fedstill.agent.worker import ENDINGS, Contract
from fedstill.cli.output import print_json, show_time
from fedstill.cli.releases import released
from fedstill.config import set_value
from fedstill.errors import ConfigError, RunError


def table_of(file: Path, learner: str, changes: Sequence[str]) -> dict[str, Any]:
    """The `[[participants]]` table that options of the command line make; the file is there."""
    if not file.exists():
        raise ConfigError("there is no such file", where=str(file), remedy="Give the path of your readings")
    table: dict[str, Any] = {"file": str(file.resolve()), "learner": learner}
    for change in changes:
        set_value(table, change)
    return table


def show_terms(folder: Path, *, accept: bool, as_json: bool) -> None:
    """Show the terms that the coordinator offers, and what they mean for this participant; accept them if asked to."""
    home = Home(folder)
    before = home.accepted
    contract, data = _offered(home, keep=True)
    terms, agreement = contract.terms, contract.agreement
    member = home.member(agreement.task)
    agreement.make(member)
    prepared = agreement.prepare(member)
    n_items, n_inputs = agreement.inputs.shape
    releases = released(terms.recipes, n_items, n_inputs, len(agreement.task.outputs))
    rows = prepared.site.rows
    if accept:
        home.write("terms.json", data)
    accepted = accept or before == data
    if as_json:
        told = {"releases": releases, "train_rows": len(rows), "accepted": accepted, "sha256": contract.digest}
        print_json({"terms": msgspec.to_builtins(terms), **told})
        return
    click.echo(f"Run {terms.run} of {terms.federation}, with {', '.join(terms.parties)}")
    click.echo(f"  up to {terms.rounds} rounds of '{terms.strategy}'; a round teaches with {terms.quorum} answers")
    click.echo(f"  a question waits {terms.deadline_s:g} s for your answer")
    click.echo(f"  in each round leaves your site: {'; '.join(releases)}; nothing else")
    click.echo(f"  you learn from {len(rows)} rows, and are judged on {len(prepared.examination.X)}")
    for note in prepared.notes:
        click.echo(f"  note: {note}")
    click.echo(f"  these terms are {'accepted' if accepted else 'new'}; their SHA-256 is {contract.digest}")


def dry_run(folder: Path, out: Path | None, *, as_json: bool) -> None:
    """Train, and write what the first answer would be."""
    home = Home(folder)
    out = out or home.folder / "dry-run"
    with _within_limits(home):
        contract, _ = _offered(home, keep=False)
        told = looking.show(looking.rehearse(home, contract), contract.agreement, out)
    if as_json:
        print_json(told | {"folder": str(out)})
        return
    click.echo(f"Under the terms of run {contract.terms.run} the first answer would be:")
    _tell_release(told, out)
    click.echo("Nothing was sent, and the participant knows nothing of it.")


def decide(folder: Path, number: int | None, refusal: str | None, *, only_look: bool, as_json: bool) -> None:
    """Look at an answer that waits, let it go, or make it a refusal."""
    home = Home(folder)
    _ = home.settings  # says what is wrong with the folder
    if only_look:
        if refusal is not None:
            raise ConfigError("to look and to refuse are two things", where="--look", remedy="Do one after the other")
        told, out = approval.look(home, number)
        if as_json:
            print_json(told | {"folder": str(out)})
        else:
            _tell_release(told, out)
        return
    draft = approval.decide(home, number, refusal, time.time())
    if as_json:
        print_json({"number": draft.number, "what": draft.what, "approved": refusal is None})
    elif refusal is None:
        click.echo(f"Answer {draft.number} ({draft.what}, {draft.size} bytes) may leave.")
    else:
        click.echo(f"Answer {draft.number} ({draft.what}) stays here; the coordinator is told: {refusal}")


def take_part(folder: Path, *, accept: bool, observe: Callable[[str], None]) -> taking_part.Result:
    """Take part to the end of the run. Raises RunError, too, where it fails."""
    home = Home(folder)
    with _within_limits(home):
        result = asyncio.run(taking_part.take_part(home, accept=accept, observe=_once(observe)))
    if result.ended == "failed":
        raise RunError(f"the run has failed: {result.why}", where=str(folder), remedy="Ask the operator")
    return result


def stay(folder: Path, *, accept: bool, observe: Callable[[str], None]) -> None:
    """Take part in one run after the other, until stopped."""
    home = Home(folder)
    with _within_limits(home):
        asyncio.run(staying.stay(home, accept=accept, observe=_once(observe)))


def left(folder: Path) -> list[dict[str, Any]]:
    """All that has left the site, in any run."""
    home = Home(folder)
    _ = home.settings
    if not home.journal_path.exists():
        return []
    with closing(Journal(home.journal_path, "")) as journal:
        named = ("number", "what", "digest", "size", "made_at", "posted_at", "why")
        return [{"terms": run} | {name: getattr(one, name) for name in named} for run, one in journal.sent_ever()]


def standing(folder: Path) -> dict[str, Any]:
    """Where a participant stands."""
    home = Home(folder)
    settings, certificate, accepted = home.settings, home.certificate, home.standing_on
    told: dict[str, Any] = {
        "participant": settings.participant.name,
        "coordinator": settings.address,
        "certificate_ends": certificate.ends.isoformat(timespec="minutes"),
        "certificate_days_left": (certificate.ends - datetime.now(UTC)).days,
    }
    closed_s = Hours.read(settings.rules.hours).closed_s(time.time())
    if closed_s:
        told["trains_again"] = show_time(time.time() + closed_s)
    if accepted is None:
        return told | {"terms": "none accepted yet"}
    terms = accepted.terms
    told |= {"run": terms.run, "rounds": terms.rounds}
    if not home.journal_path.exists():
        return told | {"ended": "not yet begun"}
    with closing(Journal(home.journal_path, accepted.digest)) as journal:
        past, sent, drafts = journal.received(), journal.sent(), journal.drafts()
    ended = next((one.kind for one in past if one.kind in ENDINGS), "")
    told |= {
        "last_round": max((one.round for one in past), default=0),
        "ended": ended or "not yet",
        "answers_sent": sum(one.posted_at is not None for one in sent),
        "answers_waiting": sum(one.posted_at is None for one in sent),
        "bytes_sent": sum(one.size for one in sent if one.posted_at is not None),
        "last_contact": show_time(past[-1].handled_at) if past else "none",
    }
    late = sum(one.verdict == LATE for one in drafts)
    told |= {"answers_too_late": late} if late else {}
    waits = [f"answer {one.number}: {one.what}, {one.size} bytes" for one in drafts if one.verdict == WAITING]
    return told | ({"waits_for_your_approval": "; ".join(waits)} if waits else {})


def _offered(home: Home, *, keep: bool) -> tuple[Contract, bytes]:
    async def ask() -> tuple[Contract, bytes]:
        link = taking_part.link_of(home)
        try:
            return await taking_part.offered(home, link, keep=keep)
        finally:
            await link.close()

    _ = home.settings, home.identity, home.coordinator
    return asyncio.run(ask())


@contextmanager
def _within_limits(home: Home) -> Iterator[None]:
    """Hold no more memory than the owner allows, and say so where that is too little."""
    memory_mb = home.settings.rules.memory_mb
    place = f"{home.folder / 'participant.toml'}, work, memory_mb"
    if memory_mb is not None:
        limit_memory(memory_mb, place)
    try:
        yield
    except MemoryError:
        raise RunError(
            "there is not enough memory",
            where=place if memory_mb is not None else str(home.folder),
            remedy="Allow more, choose a smaller learner or a shorter history; it goes on where it was",
        ) from None


def _once(observe: Callable[[str], None]) -> Callable[[str], None]:
    """Tell a line that is said many times in a row once."""
    last = ""

    def tell(line: str) -> None:
        nonlocal last
        if line != last:
            observe(line)
        last = line

    return tell


def _tell_release(told: dict[str, Any], out: Path) -> None:
    click.echo(f"  round {told['round']}, question {told['question']}: {told['content']}, {told['bytes']} bytes")
    besides = {
        "rows_told": "the number of your rows",
        "loss_told": "the held-out loss of your model",
        "within_clip_told": "whether your update was within the clip",
    }
    for key, words in besides.items():
        if told[key] is not None:
            click.echo(f"  and {words}: {told[key]}")
    click.echo("  in a signed letter with your participant's name, the time, the size and the SHA-256")
    click.echo(f"  written to {out / 'release.csv'} and release.json")
