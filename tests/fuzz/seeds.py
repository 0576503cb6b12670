"""Real inputs, made by the code that makes them in earnest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np

from fedstill import config, wire
from fedstill.agreement import read_terms
from fedstill.codecs.raw import Raw
from fedstill.labels import Outputs, Release, SoftLabels, Space
from fedstill.messages import Answer, Ask, Kind, Recipe, Refuse, Teach
from fedstill.service.clerk import Bell
from fedstill.service.consortium import Consortium
from fedstill.service.founding import found
from fedstill.service.invites import read_invite
from fedstill.service.serving import open_desk
from fedstill.transports.authority import Authority
from fedstill.transports.identity import Identity
from fedstill.transports.letters import COORDINATOR, Header, digest_of, write
from fedstill.transports.mqtt import frames
from fedstill.transports.roles import Role

OUTPUTS = Outputs(Space.PROBABILITIES, ("no", "yes"))
TERMS_DIGEST = "ab" * 32
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
ADDRESS = "https://127.0.0.1:18999"


def releases() -> list[bytes]:
    plain = SoftLabels.of(np.arange(3), np.array([[0.5, 0.5], [0.1, 0.9], [1, 0]]), OUTPUTS.space)
    weighted = SoftLabels.of(np.array([0, 2]), plain.values[::2], OUTPUTS.space, np.array([0.5, 2]))
    parameters = {"w0": np.ones((2, 3), np.float32), "b0": np.zeros(3, np.float32)}
    return [
        Raw().encode(release)
        for release in (
            Release(labels=plain),
            Release(labels=weighted, count=12, score=0.25),
            Release(parameters=parameters, count=5),
            Release(parameters=parameters, within=0.5),
            Release(sketch=np.arange(4, dtype=np.float32)),
            Release(),
        )
    ]


def messages() -> list[bytes]:
    recipe, release = Recipe(share=0.25, certainty="hard"), releases()[0]
    replies = (Answer(1, "a", release), Refuse(1, "a", "ValueError", 2))
    clipped = Ask(2, Recipe(Kind.PARAMETERS, clip=1.0, adaptive=True), clip=0.5)
    return [wire.encode(one) for one in (Ask(1, recipe), clipped, Teach(1, recipe, release), *replies)]


@cache
def identity() -> Identity:
    return Identity.create()


def letters() -> list[bytes]:
    payload = messages()[2]
    heads = [
        Header(TERMS_DIGEST, "a", COORDINATOR, 1, "frame", digest_of(payload), len(payload), 1.5),
        Header(TERMS_DIGEST, COORDINATOR, "b", 2**40, "finished", digest_of(b""), 0, 0.0),
    ]
    return [write(head, identity().sign).to_bytes() for head in heads]


@cache
def founded(folder: Path) -> Consortium:
    """A consortium with a run under way: two have joined, one has answered."""
    rows = "\n".join(f"{i % 7},{i % 5},{('no', 'yes')[i % 2]}" for i in range(40))
    (folder / "table.csv").write_text(f"x,z,y\n{rows}\n", encoding="utf-8")
    table = {"file": str(folder / "table.csv")}
    file = config.parse(
        {
            "name": "duo",
            "task": {"kind": "classification", "target": "y", "classes": ["no", "yes"], "columns": ["x", "z"]},
            "data": table,
            "transfer": {**table, "items": 3},
            "strategy": {"name": "fedmd"},
            "participants": [{"name": "a"}, {"name": "b"}],
        }
    )
    consortium = found(folder / "duo", file, folder, ADDRESS)
    keys = {name: Identity.create() for name in ("a", "b")}
    for name, key in keys.items():
        token = read_invite(consortium.invite(name, 1)).token
        consortium.registry.enrol(token, key.request_pem(name))
    assert consortium.store.lead("fuzz", 0.0, 1.0)
    desk = open_desk(consortium, Bell())
    desk.tick()
    payload = wire.encode(Answer(1, "a", releases()[0]))
    header = Header(digest_of(desk.terms), "a", COORDINATOR, 1, "frame", digest_of(payload), len(payload), 1.5)
    assert desk.take([("a", write(header, keys["a"].sign).to_bytes(), payload)]) == [""]
    return consortium


def terms_of(folder: Path) -> bytes:
    return founded(folder).store.runs()[-1].terms


def transfer_of(folder: Path) -> bytes:
    return founded(folder).blobs.get(read_terms(terms_of(folder)).transfer)


@cache
def authority() -> Authority:
    return Authority.create("duo", BEGUN)


def certificate_of(name: str) -> bytes:
    return authority().certify(identity().request_pem(name), name, Role.PARTICIPANT, BEGUN, 365)


def sealed(messages: Sequence[frames.Request | frames.Answer]) -> list[bytes]:
    return [frames.pack(one, b"a certificate", identity().sign) for one in messages]
