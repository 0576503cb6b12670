"""What leaves a participant's site, for its owner to look at before it does."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fedstill import wire
from fedstill.agent.home import Home
from fedstill.agent.threads import Threads
from fedstill.agent.worker import Contract
from fedstill.agreement import Agreement
from fedstill.errors import LearnerError, WireError
from fedstill.files import write_whole
from fedstill.labels import Release
from fedstill.members import Member
from fedstill.messages import Answer, Ask
from fedstill.privacy.durable import FILE, SQLiteLedger, reading
from fedstill.privacy.noise import SystemNoise
from fedstill.transports.letters import digest_of


def rehearse(home: Home, contract: Contract) -> Answer:
    """Train, and make the answer to the first question of a run. Nothing is sent or written.

    Raises
    ------
    ConfigError, DataError, LearnerError, MissingExtra
        Where the participant's learner or data cannot be used, also where it would refuse the question for that.
    """
    agreement, rules = contract.agreement, home.settings.rules
    member = home.member(agreement.task)
    prepared = agreement.prepare(member)
    with TemporaryDirectory() as nowhere, closing(_copied(home, Path(nowhere) / FILE, member)) as ledger:
        guard = agreement.guard(member, ledger, SystemNoise())
        participant = agreement.build(agreement.make(member), prepared, guard)()
        with Threads(rules.threads).held():
            reply = participant.handle(Ask(1, contract.terms.recipes[0]))
    if not isinstance(reply, Answer):
        raise LearnerError(
            f"your participant would refuse: {participant.notes[-1]}", remedy="Mend that, or choose another learner"
        )
    return reply


def _copied(home: Home, path: Path, member: Member) -> SQLiteLedger:
    """A copy of what was spent so far, to try what an answer would cost."""
    if home.ledger_path.exists():
        with reading(home.ledger_path) as original, closing(sqlite3.connect(path)) as copy:
            original.backup(copy)
    return SQLiteLedger(path, member.name, member.privacy.budget, time.time)


def show(reply: Answer, agreement: Agreement, folder: Path) -> dict[str, Any]:
    """Write an answer as release.csv, the numbers, and release.json, what they are.

    Parameters
    ----------
    reply:
        The answer.
    agreement:
        What it was made under.
    folder:
        Where; made if it is not there.

    Returns
    -------
    What stands in release.json.

    Raises
    ------
    WireError
        Where the answer cannot be decoded.
    """
    release = agreement.coder.decode(reply.payload)
    payload = wire.encode(reply)
    told = {
        "participant": reply.sender,
        "round": reply.round,
        "question": reply.question,
        "bytes": len(payload),
        "sha256": digest_of(payload),
        "content": _content(release),
        "rows_told": release.count or None,
        "loss_told": None if np.isnan(release.score) else release.score,
        "within_clip_told": None if np.isnan(release.within) else release.within,
    }
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_table(release, agreement.task.outputs.columns))
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "release.csv", text.getvalue().encode(), private=True)
    write_whole(folder / "release.json", json.dumps(told, indent=2).encode() + b"\n", private=True)
    return told


def answer_in(payload: bytes) -> Answer:
    """The answer that a stored payload is. Raises WireError where it is none."""
    reply = wire.decode(payload)
    if not isinstance(reply, Answer):
        raise WireError("this is no answer")
    return reply


def _content(release: Release) -> str:
    if release.labels is not None:
        n, k = release.labels.values.shape
        abstains = int((release.labels.weight == 0).sum())
        return f"{n} soft labels of {k} numbers" + (f", {abstains} of them with weight 0" if abstains else "")
    if release.sketch is not None:
        return f"a sketch of {len(release.sketch)} numbers"
    numbers = sum(np.size(array) for array in release.parameters.values())
    return f"{numbers} parameters in {len(release.parameters)} arrays"


def _table(release: Release, columns: Sequence[str | float]) -> Iterator[list[Any]]:
    labels = release.labels
    if labels is not None:
        yield ["item", "weight", *columns]
        for item, weight, row in zip(labels.items, labels.weight, labels.values, strict=True):
            yield [int(item), str(weight), *map(str, row)]
        return
    arrays = release.parameters if release.sketch is None else {"sketch": release.sketch}
    yield ["name", "index", "value"]
    for name, array in arrays.items():
        for index, value in np.ndenumerate(array):
            yield [name, " ".join(map(str, index)), str(value)]
