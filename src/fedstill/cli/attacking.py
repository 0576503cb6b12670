"""What `attack` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from prettytable import PrettyTable

from fedstill.assemble import assemble
from fedstill.attacks.reports import AttackReport, Estimate
from fedstill.attacks.suite import ATTACKS, Attack, attack, effort
from fedstill.cli.output import print_json
from fedstill.cli.running import Bar
from fedstill.cli.runs import kept
from fedstill.files import write_whole
from fedstill.transports.log import read_events

REPORT = "attack.json"


def attacked(
    run: Path, attacks: Sequence[Attack], worlds: int, seed: int, workers: int | None, *, as_json: bool, quiet: bool
) -> None:
    """Attack a finished run, and write what was found into its folder."""
    file, folder = kept(run)
    if workers is not None:
        file = msgspec.structs.replace(file, workers=workers)
    with Bar(len(file.participants), "reading", quiet) as reading:
        federation = assemble(file, folder, reading.line)
    chosen = attacks or ATTACKS
    with Bar(effort(federation, chosen, worlds), "runs played", quiet) as playing:
        found = attack(
            federation,
            list(read_events(run / "events.log")),
            attacks=chosen,
            worlds=worlds,
            seed=seed,
            tick=playing.line,
        )
    write_whole(run / REPORT, msgspec.json.format(msgspec.json.encode(found)))
    if as_json:
        print_json(found)
        return
    click.echo(table(found))
    click.echo(f"Intervals hold 95 %. Report: {run / REPORT}; what it means: docs/how-to/attack-a-run.md")


def table(found: AttackReport) -> str:
    """All attacks as text, a line for each number and a column for each who looks."""
    rows = dict(_rows(found))
    views = list(dict.fromkeys(by for row in rows.values() for by in row))
    shown = PrettyTable(["", *views])
    shown.align = "l"
    for name, row in rows.items():
        shown.add_row([name, *(row.get(by, "") for by in views)])
    return str(shown.get_string())


def _rows(found: AttackReport) -> Iterator[tuple[str, dict[str, str]]]:
    if found.membership:
        named = {
            "membership: AUC": "auc",
            "membership: found at 0.1 % false alarms": "tpr_at_fpr_0_1_percent",
            "membership: found at 1 % false alarms": "tpr_at_fpr_1_percent",
        }
        for name, field in named.items():
            yield name, _shown(found.membership, field)
    if found.reconstruction is not None:
        told = _shown(found.reconstruction, "mean") or {"coordinator": "fewer than two answers in events.log"}
        yield "reconstruction: error over a guess's", told
    for point in found.reconstruction_by_days or ():
        yield (
            f"  were a first answer of {point.batch} {found.unit}{'s' * (point.batch > 1)}",
            {"coordinator": _words(point.found.mean)},
        )
    for name, by_view in (found.property or {}).items():
        yield f"property {name}: AUC", _shown(by_view, "auc")
    if found.audit:
        yield "audit: epsilon is at least", {by: f"{one.low:.2f}" for by, one in found.audit.items()}
        high = {by: "no bound" if one.high is None else f"{one.high:g}" for by, one in found.audit.items()}
        yield "ledger: epsilon is at most", high


def _shown(by_view: Mapping[str, Any], field: str) -> dict[str, str]:
    return {by: _words(getattr(one, field)) for by, one in by_view.items()}


def _words(one: Estimate) -> str:
    if one.estimate is None or one.low is None or one.high is None:
        return "undefined"
    return f"{one.estimate:.3f} ({one.low:.3f} to {one.high:.3f})"
