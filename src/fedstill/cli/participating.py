"""What `participant` commands do."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from fedstill.agent.home import Home
from fedstill.agent.journal import Journal
from fedstill.agent.taking_part import link_of, offered, worker_of
from fedstill.agent.worker import Worker
from fedstill.agreement import Terms, read_terms
from fedstill.cli.output import print_json, show_time
from fedstill.cli.releases import released
from fedstill.errors import ConfigError
from fedstill.transports.letters import digest_of


def table_of(file: Path, learner: str, changes: Sequence[str]) -> dict[str, Any]:
    """The `[[participants]]` table that options of the command line make; the file is there."""
    if not file.exists():
        raise ConfigError("there is no such file", where=str(file), remedy="Give the path of your readings")
    table: dict[str, Any] = {"file": str(file.resolve()), "learner": learner}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise ConfigError(f"'{change}' is no change", where="--set", remedy="Write key=value")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *path, last = key.strip().split(".")
        at = table
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
    return table


def show_terms(folder: Path, *, as_json: bool) -> None:
    """Show the terms that the coordinator offers, and what they mean for this participant."""
    home = Home(folder)
    terms, worker = asyncio.run(_offered(home))
    n_items, n_inputs = worker.contract.agreement.inputs.shape
    releases = released(terms.recipes, n_items, n_inputs, len(worker.participant.outputs))
    site = worker.prepared.site
    if as_json:
        print_json({"terms": msgspec.to_builtins(terms), "releases": releases, "train_rows": len(site.rows)})
        return
    click.echo(f"Run {terms.run} of {terms.federation}, with {', '.join(terms.parties)}")
    click.echo(f"  up to {terms.rounds} rounds of '{terms.strategy}'; a round teaches with {terms.quorum} answers")
    click.echo(f"  a question waits {terms.deadline_s:g} s for your answer")
    click.echo(f"  in each round leaves your site: {'; '.join(releases)}; nothing else")
    click.echo(f"  you learn from {len(site.rows)} rows, and are judged on {len(worker.prepared.examination.X)}")
    for note in worker.prepared.notes:
        click.echo(f"  note: {note}")
    state = "accepted" if home.accepted is not None and digest_of(home.accepted) == worker.contract.digest else "new"
    click.echo(f"  these terms are {state}; their SHA-256 is {worker.contract.digest}")


async def _offered(home: Home) -> tuple[Terms, Worker]:
    link = link_of(home)
    try:
        contract, _ = await offered(home, link)
    finally:
        await link.close()
    return contract.terms, worker_of(home, contract)


def left(folder: Path) -> list[dict[str, Any]]:
    """All that has left the site in the run whose terms are accepted."""
    home = Home(folder)
    if home.accepted is None:
        return []
    journal = Journal(home.journal_path, digest_of(home.accepted))
    named = ("number", "what", "digest", "size", "made_at", "posted_at", "why")
    return [{name: getattr(one, name) for name in named} for one in journal.sent()]


def standing(folder: Path) -> dict[str, Any]:
    """Where a participant stands."""
    home = Home(folder)
    settings, certificate = home.settings, home.identity.certificate
    told: dict[str, Any] = {"participant": settings.participant.name, "coordinator": settings.address}
    if certificate is not None:
        told["certificate_ends"] = certificate.ends.isoformat(timespec="minutes")
        told["certificate_days_left"] = (certificate.ends - datetime.now(UTC)).days
    if home.accepted is None:
        return told | {"terms": "none accepted yet"}
    terms = read_terms(home.accepted)
    journal = Journal(home.journal_path, digest_of(home.accepted))
    past, sent = journal.received(), journal.sent()
    ended = next((one.kind for one in past if one.kind in ("finished", "failed")), "")
    return told | {
        "run": terms.run,
        "rounds": terms.rounds,
        "last_round": max((one.round for one in past), default=0),
        "ended": ended or "not yet",
        "answers_sent": sum(one.posted_at is not None for one in sent),
        "answers_waiting": sum(one.posted_at is None for one in sent),
        "bytes_sent": sum(one.size for one in sent if one.posted_at is not None),
        "last_contact": show_time(past[-1].handled_at) if past else "none",
    }
