"""Everything that reads bytes from elsewhere, each with real inputs to start from and what it may raise."""

from __future__ import annotations

import sqlite3
import zipfile
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from seeds import (
    BEGUN,
    OUTPUTS,
    TERMS_DIGEST,
    authority,
    certificate_of,
    founded,
    identity,
    letters,
    messages,
    releases,
    sealed,
    terms_of,
    transfer_of,
)

from fedstill import wire
from fedstill.agent.home import Home
from fedstill.agent.journal import Journal, Received, Sent
from fedstill.agent.visitor import Visitor
from fedstill.agreement import Terms, read_agreement, read_terms
from fedstill.codecs.raw import Raw
from fedstill.errors import ConfigError, DataError, FedstillError, LinkRefused, WireError
from fedstill.flaws import flaw_of_release
from fedstill.messages import Kind, Recipe
from fedstill.service.callers import Refused
from fedstill.service.charter import coordinator_of
from fedstill.service.clerk import Bell
from fedstill.service.consortium import Consortium
from fedstill.service.export import export, verify
from fedstill.service.http import house, members
from fedstill.service.invites import read_invite
from fedstill.service.serving import open_desk
from fedstill.transports import https, visits, web
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.letters import (
    Parcel,
    digest_of,
    pack_parcels,
    read,
    unpack_parcels,
)
from fedstill.transports.mqtt import frames
from fedstill.transports.protocol import SPOKEN, check_spoken
from fedstill.transports.roles import Role

FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
"""Where the files of targets lie, if there is such a place; nothing there outlives a run."""


@dataclass(frozen=True)
class Target:
    """A function under test.

    Attributes
    ----------
    seeds:
        What it takes, made by the code that makes it in earnest.
    run:
        The function: it reads the bytes, and whatever it returns is fine.
    allowed:
        What it may raise; anything else is a bug.
    share:
        Of the frames, where 1 is that of a fast target: slow ones have less.
    """

    seeds: Sequence[bytes]
    run: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...] = (WireError,)
    share: float = 1.0


# Targets: frames and letters.


def frame(_: Path) -> Target:
    return Target(messages(), wire.decode)


def packed(_: Path) -> Target:
    seeds = [wire.pack(None, {"X": np.eye(3), "n": np.arange(4), "yes": np.array([True, False])}), *releases()]
    return Target(seeds, lambda data: wire.unpack(data, object))


def release(_: Path) -> Target:
    def run(data: bytes) -> None:
        decoded = Raw().decode(data)
        for kind in Kind:
            flaw_of_release(decoded, Recipe(release=kind, sketch=4), OUTPUTS, 3, {"w0": (2, 3), "b0": (3,)})

    return Target(releases(), run)


def letter(_: Path) -> Target:
    return Target(letters(), read)


def parcels(_: Path) -> Target:
    both = [Parcel(letter, payload) for letter, payload in zip(letters(), (messages()[2], None), strict=True)]

    def run(data: bytes) -> None:
        for parcel in unpack_parcels(data, 2**20):
            read(parcel.letter)

    return Target([pack_parcels(both), pack_parcels(both[:1]), pack_parcels([])], run)


def posted(folder: Path) -> Target:
    """What a member posts reaches the desk; it says why not, and raises nothing."""
    desk = open_desk(founded(folder), Bell())
    known = [parcel.letter for parcel in desk.letters("a", 0)]
    seeds = [pack_parcels([Parcel(letter, messages()[2])]) for letter in (*letters(), *known)]

    def run(data: bytes) -> None:
        batch = [("a", parcel.letter, parcel.payload) for parcel in unpack_parcels(data, 2**20)[:4]]
        assert all(isinstance(why, str) for why in desk.take(batch))

    return Target(seeds, run, (WireError,), 0.2)


# Over MQTT.


def mqtt_request(_: Path) -> Target:
    bodies = (
        *(frames.Terms(0), frames.Letters(7, 25.0), frames.Fetch(TERMS_DIGEST, 2**40), frames.Look(TERMS_DIGEST, 5)),
        *(frames.Piece(TERMS_DIGEST, 5, 0, b"hello"), frames.Post(b"letter", None), frames.Enrol(b"pem")),
    )
    said = [frames.Request(bytes(range(16)), "a", 1.5, body) for body in bodies]
    return Target(sealed(said), _unpacker(frames.Request))


def mqtt_answer(_: Path) -> Target:
    bodies = (
        *(frames.Part(TERMS_DIGEST, 5, b"hello"), frames.Parcels(b"packed"), frames.Extent(3, whole=False)),
        *(frames.Verdict(""), frames.Certified(b"one", b"two"), frames.No("what", "remedy", again=True), frames.Gone()),
    )
    said = [frames.Answer(bytes(16), "a", bytes(range(16)), 1.5, body) for body in bodies]
    return Target(sealed(said), _unpacker(frames.Answer))


def _unpacker(kind: Any) -> Callable[[bytes], object]:
    def run(data: bytes) -> None:
        frames.fits(frames.unpack(data, kind), TERMS_DIGEST)

    return run


def mqtt_address(_: Path) -> Target:
    seeds = [b"mqtts://broker.example.org:8883/duo?enrol=8884", b"mqtts://[::1]/duo"]
    return Target(seeds, lambda data: frames.Address.parse(data.decode("utf-8", "replace")), (ConfigError,))


# Certificates.


def certificate(_: Path) -> Target:
    pems = [certificate_of(name) for name in ("a", "b")]

    def run(data: bytes) -> None:
        one = Certificate.from_pem(data)
        one.issued_by(authority().cert_pem)
        one.valid(BEGUN)
        one.verify(b"data", bytes(64))

    return Target(pems, run, share=0.3)


def certificate_der(_: Path) -> Target:
    from cryptography.hazmat.primitives.serialization import Encoding

    ders = [Certificate.from_pem(certificate_of(name)).document.public_bytes(Encoding.DER) for name in ("a", "b")]
    return Target(ders, lambda data: Certificate.from_der(data).issued_by(authority().cert_pem), share=0.3)


def certificate_request(_: Path) -> Target:
    seeds = [identity().request_pem("a"), Identity.create("p256").request_pem("b")]
    return Target(seeds, lambda data: authority().certify(data, "a", Role.OBSERVER, BEGUN, 365), share=0.3)


def authority_certificate(_: Path) -> Target:
    mine = Certificate.from_pem(certificate_of("a"))
    return Target([authority().cert_pem, mine.pem], mine.issued_by, (ConfigError,), 0.3)


def key(_: Path) -> Target:
    seeds = [identity().key_pem, Identity.create("p256").key_pem]
    return Target(seeds, Identity.from_pem, (ConfigError, WireError), 0.3)


# What a coordinator says to a participant, and the other way round.


def terms(folder: Path) -> Target:
    """As a participant reads them, with the transfer set that belongs to them."""
    data = transfer_of(folder)

    def run(said: bytes) -> None:
        found = msgspec.structs.replace(read_terms(said), transfer=digest_of(data))
        found.to_bytes()
        read_agreement(found, data).inputs  # noqa: B018 - computed where it is asked for

    return Target([terms_of(folder)], run)


def charter(folder: Path) -> Target:
    """As an auditor reads them: they make a machine."""
    data = transfer_of(folder)

    def run(said: bytes) -> None:
        found = msgspec.structs.replace(read_terms(said), transfer=digest_of(data), start="")
        coordinator_of(found, {found.transfer: data}).start()

    return Target([terms_of(folder)], run, (FedstillError,))


def transfer_set(folder: Path) -> Target:
    agreed = read_terms(terms_of(folder))
    blocks = wire.pack(None, {"X": np.zeros((4, 2), np.float32), "block": np.arange(4)})

    def run(data: bytes) -> None:
        found: Terms = msgspec.structs.replace(agreed, transfer=digest_of(data))
        read_agreement(found, data).inputs  # noqa: B018 - computed where it is asked for

    return Target([transfer_of(folder), blocks], run)


def invite(folder: Path) -> Target:
    path = folder / "fuzzed.invite"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        read_invite(path)

    return Target([founded(folder).invite("b", 1).read_bytes()], run, (ConfigError,), 0.3)


def body(_: Path) -> Target:
    """What the API takes as JSON."""
    asked = {"token": "secret", "request": identity().request_pem("a").decode()}
    seeds = [msgspec.json.encode(asked), msgspec.json.encode({"request": asked["request"]})]

    def run(data: bytes) -> None:
        for kind in (members.Enrolment, members.Renewal):
            with suppress(Refused):
                house.read_json(data, kind)

    return Target(seeds, run)


@dataclass(frozen=True)
class _Said:
    """An answer of a coordinator, as far as a client looks at it."""

    data: bytes
    status: int = 403

    @property
    def content(self) -> _Said:
        return self

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self.data


def answered(_: Path) -> Target:
    """What a client reads as JSON."""
    said = {"why": "", "certificate": "pem", "authority": "pem", "error": "what", "remedy": "what to do"}
    kinds = (https._Verdict, https._Certified, https._Enrolled, web._Complaint)

    def run(data: bytes) -> None:
        assert isinstance(_done(web._refusal(_Said(data))), FedstillError)  # type: ignore[arg-type]
        for kind in kinds:
            with suppress(WireError):
                _done(web.read_json(_Said(data), kind))  # type: ignore[arg-type,var-annotated]

    return Target([msgspec.json.encode(said), *(msgspec.json.encode({name: text}) for name, text in said.items())], run)


def _done(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def status(_: Path) -> Target:
    """What a visitor reads of a run."""
    party = visits.PartyStatus("joined", 1.5, heard=True)
    closing = visits.Closing(1, taught=True, answered=["a"], refused={}, missing=["b"], groups=[["a"]])
    said = visits.RunStatus("duo", 1, TERMS_DIGEST, "open", "", 1, 3, 2.5, {"a": party}, [closing])
    return Target([msgspec.json.encode(said)], lambda data: visits._decoded(data, visits.RunStatus))


def protocol(_: Path) -> Target:
    """What the other side says that it speaks."""
    return Target([SPOKEN.encode()], lambda data: check_spoken(coordinator=data.decode("latin-1")), (LinkRefused,), 0.1)


# Files.


def participant_settings(folder: Path) -> Target:
    home = Home(folder / "home")
    seeds = [
        b'address = "https://127.0.0.1:18999"\n[participant]\nname = "a"\nlearner = "mlp"\n'
        b'history = ["2026-01-01", ""]\n[participant.options]\nhidden = [8]\n[work]\napprove = "ask"\n'
        b'hours = ["18:00-06:00"]\nthreads = 2\n'
        b"memory_mb = 500\nbandwidth_kb_per_s = 10.5\n"
    ]

    def run(data: bytes) -> None:
        home.write("participant.toml", data)
        home.settings  # noqa: B018 - read where they are asked for

    return Target(seeds, run, (ConfigError,), 0.3)


def visitor_settings(folder: Path) -> Target:
    visitor = Visitor(folder / "visitor")

    def run(data: bytes) -> None:
        visitor.write("visitor.toml", data)
        visitor.settings  # noqa: B018 - read where they are asked for

    seed = b'name = "ada"\nrole = "auditor"\naddress = "https://127.0.0.1:18999"\n'
    return Target([seed], run, (ConfigError,), 0.1)


def consortium_settings(folder: Path) -> Target:
    place = founded(folder).folder
    settings = place / "consortium.toml"
    real = settings.read_bytes()
    seeds = [real, real + b'listen = "::"\nbroker = "mqtts://h/d"\n[limits]\nburst = 5\nbody_s = 2.5\n']

    def run(data: bytes) -> None:
        settings.write_bytes(data)
        try:
            with closing(Consortium(place)):
                pass
        finally:
            settings.write_bytes(real)

    return Target(seeds, run, (ConfigError,), 0.1)


def journal(folder: Path) -> Target:
    path = folder / "journal.db"
    with closing(Journal(path, TERMS_DIGEST)) as made:
        made.handled(Received(1, "ask", 1, TERMS_DIGEST, 1.5), Sent(1, "labels", letters()[0], TERMS_DIGEST, 5, 1.5))
        made.posted(1, 2.5, "")

    def run(data: bytes) -> None:
        _without_log(path)
        path.write_bytes(data)
        with closing(Journal(path, TERMS_DIGEST)) as read:
            read.received(), read.sent(), read.sent_ever(), read.drafts()
            read.posted(1, 3.5, "late")

    return Target([_alone(path)], run, (DataError,), 0.1)


def audit_archive(folder: Path) -> Target:
    """The file that an auditor is given, as a whole."""
    path = folder / "audit.zip"
    export(founded(folder), path)
    seed = path.read_bytes()
    stored = _zipped(folder / "stored.zip", _unzipped(path))  # so that changes get through to what is in it

    def run(data: bytes) -> None:
        path.write_bytes(data)
        verify(path)

    return Target([seed, stored], run, (DataError, ConfigError, WireError), 0.02)


def audit_database(folder: Path) -> Target:
    """The database in it, changed by somebody who can pack archives."""
    path = folder / "audited.zip"
    export(founded(folder), path)
    files = _unzipped(path)

    def run(data: bytes) -> None:
        _zipped(path, {**files, "store.db": data})
        verify(path)

    return Target([files["store.db"]], run, (DataError, ConfigError, WireError), 0.02)


def audit_rows(folder: Path) -> Target:
    """The same, changed in what stands in its tables."""
    path, database = folder / "rows.zip", folder / "rows.db"
    export(founded(folder), path)
    files = _unzipped(path)
    database.write_bytes(files["store.db"])
    with closing(sqlite3.connect(database)) as connection:
        seed = "\n".join(connection.iterdump()).encode()

    def run(data: bytes) -> None:
        database.unlink(missing_ok=True)
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            for statement in data.decode("utf-8", "replace").split(";\n"):
                with suppress(sqlite3.Error, sqlite3.Warning, ValueError):
                    connection.execute(statement)
            with suppress(sqlite3.Error):
                connection.execute("COMMIT")
        _zipped(path, {**files, "store.db": database.read_bytes()})
        verify(path)

    return Target([seed], run, (DataError, ConfigError, WireError), 0.02)


def _unzipped(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def _zipped(path: Path, files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path.read_bytes()


def _alone(path: Path) -> bytes:
    """A database as one file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    return path.read_bytes()


def _without_log(path: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


TARGETS: dict[str, Callable[[Path], Target]] = {
    made.__name__: made
    for made in (
        *(frame, packed, release, letter, parcels, posted, mqtt_request, mqtt_answer, mqtt_address),
        *(certificate, certificate_der, certificate_request, authority_certificate, key),
        *(terms, charter, transfer_set, invite, body, answered, status, protocol),
        *(participant_settings, visitor_settings, consortium_settings, journal),
        *(audit_archive, audit_database, audit_rows),
    )
}
"""Name -> what makes the target, given a folder for its files."""
