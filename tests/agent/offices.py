"""One participant, and a coordinator that is nothing but its key and a list of letters."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w
from parties import FakeAgreement, FakeMember

from fedstill import wire
from fedstill.agent.home import Home
from fedstill.agent.journal import Journal
from fedstill.agent.limits import Rules
from fedstill.agent.worker import Contract, Worker
from fedstill.agreement import FORMAT, Terms, write_transfer
from fedstill.cli.main import main
from fedstill.errors import LinkDown
from fedstill.messages import Answer, Ask, Message, Recipe, Refuse, Teach
from fedstill.privacy.durable import SQLiteLedger
from fedstill.privacy.spending import Budget
from fedstill.service.store.blobs import Blobs
from fedstill.tasks.base import TransferSet
from fedstill.tasks.classification import Classification
from fedstill.transports.authority import Authority
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.letters import COORDINATOR, Header, Parcel, digest_of, read, write
from fedstill.transports.roles import Role

TASK = Classification("y", ("no", "yes"), ("x", "z"), folds=2, companions=())
TRANSFER = TransferSet(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), 32)
RECIPE = Recipe(share=0.5)
NOW = 1_800_000_000.0
ADDRESS = "https://coordinator.test:8443"


@cache
def papers() -> tuple[Authority, Identity, Identity, Identity]:
    """An authority, the coordinator, Ann and somebody else; made once, because keys take time."""
    begun = datetime.now(UTC) - timedelta(days=10)
    return Authority.create("office", begun), Identity.create(), Identity.create(), Identity.create()


def certified(identity: Identity, name: str, role: Role = Role.PARTICIPANT, *, days: int = 365, ago: int = 0) -> bytes:
    """A certificate that was made so many days ago."""
    begun = datetime.now(UTC) - timedelta(days=ago)
    return papers()[0].certify(identity.request_pem(name), name, role, begun, days)


@cache
def signer() -> Certificate:
    """The coordinator's certificate."""
    return Certificate.from_pem(certified(papers()[1], COORDINATOR, Role.COORDINATOR))


def terms(run: int = 1, **changes: Any) -> Terms:
    transfer = write_transfer(TRANSFER)
    settings = {
        "format": FORMAT,
        "federation": "office",
        "parties": ("ann", "bob"),
        "task": TASK.name,
        "settings": asdict(TASK),
        "codec": "raw",
        "recipes": (RECIPE,),
        "rounds": 3,
        "seed": 0,
        "strategy": "fedmd",
        "options": {},
        "quorum": 2,
        "deadline_s": 60.0,
        "stop_after": None,
        "transfer": digest_of(transfer),
        "transfer_bytes": len(transfer),
    }
    return Terms(run=run, **{**settings, **changes})


class Office:
    """Where Ann works, and what her coordinator writes to her."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority, self.coordinator, self.ann, self.other = papers()
        self.terms = terms()

    @property
    def digest(self) -> str:
        return digest_of(self.terms.to_bytes())

    # ---- the coordinator

    def parcel(self, number: int, payload: Message | bytes, *, by: Identity | None = None, **changes: Any) -> Parcel:
        """A letter of the coordinator to Ann."""
        data = payload if isinstance(payload, bytes) else wire.encode(payload)
        header = Header(self.digest, COORDINATOR, "ann", number, "frame", digest_of(data), len(data), NOW)
        return Parcel(write(replace(header, **changes), (by or self.coordinator).sign).to_bytes(), data)

    def ending(self, number: int, kind: str = "finished", why: str = "") -> Parcel:
        return self.parcel(number, json.dumps({"round": 3, "why": why}).encode(), kind=kind)

    def story(self) -> list[Parcel]:
        """Three rounds."""
        told: list[Message] = []
        for number in (1, 2, 3):
            told += [Ask(number, RECIPE), Teach(number, RECIPE, f"teacher {number}".encode())]
        return [*(self.parcel(n, one) for n, one in enumerate(told, 1)), self.ending(7)]

    # ---- Ann

    def journal(self) -> Journal:
        return Journal(self.folder / "journal.db", self.digest)

    def worker(self, *, distils: bool = True, now: float = NOW, **rules: Any) -> Worker:
        """Ann at work with fakes that do not train; started again where she was, if she was."""
        contract = Contract(
            self.terms,
            self.digest,
            FakeAgreement(distils, lambda: 0),  # type: ignore[arg-type]
            self.ann,
            signer(),
        )
        blobs = Blobs(self.folder / "payloads", 2**20)
        member: Any = FakeMember("ann")
        ledger = SQLiteLedger(self.folder / "ledger.db", "ann", Budget(), lambda: now)
        return Worker(contract, member, self.journal(), ledger, blobs, lambda: now, Rules(**rules))

    def home(self, *, work: dict[str, Any] | None = None, days: int = 365, ago: int = 0, **table: Any) -> Home:
        """Ann's folder as joining leaves it, with real data."""
        home = Home(self.folder / "ann")
        rng = np.random.default_rng(1)
        X = rng.normal(size=(200, 2))
        frame = pd.DataFrame({"x": X[:, 0], "z": X[:, 1], "y": np.where(X.sum(axis=1) > 0, "yes", "no")})
        home.folder.mkdir()
        frame.to_csv(home.folder / "data.csv", index=False)
        participant = {"name": "ann", "file": "data.csv", "learner": "linear", "options": {"iterations": 20}, **table}
        settings = {"address": ADDRESS, "participant": participant} | ({"work": work} if work else {})
        home.write("participant.toml", tomli_w.dumps(settings).encode())
        home.write("key.pem", self.ann.key_pem, private=True)
        home.write("certificate.pem", certified(self.ann, "ann", days=days, ago=ago))
        home.write("authority.pem", self.authority.cert_pem)
        home.write("coordinator.pem", signer().pem)
        return home


@dataclass
class FakeLink:
    """Has letters for Ann, and writes down what she sends; `before` may raise what a network would."""

    office: Office
    parcels: list[Parcel]
    before: Callable[[str], None] = lambda call: None

    def __post_init__(self) -> None:
        self.posted: list[tuple[bytes, bytes]] = []
        self.calls: list[str] = []
        self.waits: list[float] = []
        self.closed = False

    @property
    def replies(self) -> list[Answer | Refuse]:
        return [wire.decode(payload) for _, payload in self.posted]  # type: ignore[misc]

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self.before(name)

    async def terms(self) -> bytes:
        self._call("terms")
        return self.office.terms.to_bytes()

    async def letters(self, after: int, wait_s: float) -> list[Parcel]:
        self._call("letters")
        self.waits.append(wait_s)
        return [parcel for parcel in self.parcels if read(parcel.letter).header.number > after]

    async def fetch(self, digest: str, size: int) -> bytes:
        self._call("fetch")
        payloads = [write_transfer(TRANSFER), *(parcel.payload or b"" for parcel in self.parcels)]
        return next(payload for payload in payloads if digest_of(payload) == digest and len(payload) == size)

    async def post(self, letter: bytes, payload: bytes) -> str:
        self._call("post")
        self.posted.append((letter, payload))
        return ""

    async def renew(self, request_pem: bytes) -> bytes:
        self._call("renew")
        return self.office.authority.certify(request_pem, "ann", Role.PARTICIPANT, datetime.now(UTC), 365)

    async def close(self) -> None:
        self.closed = True


def failing(call: str, times: int, error: Exception | None = None) -> Callable[[str], None]:
    """Raises LinkDown, or another error, the first times that this is called."""
    left = [times]

    def before(name: str) -> None:
        if name == call and left[0]:
            left[0] -= 1
            raise error or LinkDown("cut off")

    return before


class Naps:
    """A sleep that takes no time, and a clock that it moves on."""

    def __init__(self, now: float = NOW, after: Callable[[], object] = lambda: None) -> None:
        self.now = now
        self.after = after
        self.taken: list[float] = []

    def clock(self) -> float:
        return self.now

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        self.now += seconds
        self.after()


@dataclass(frozen=True)
class Told:
    """What a command ended with and wrote."""

    code: int
    out: str
    err: str


def fedstill(*arguments: object) -> Told:
    """Run the command line as `fedstill ARGUMENTS` would."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as done:
            code = int(done.code or 0)
    return Told(code, out.getvalue(), err.getvalue())


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
