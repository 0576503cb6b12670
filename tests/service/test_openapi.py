"""What the coordinator's OpenAPI document says is so: requests made from it, good and bad ones, to a real desk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, MutableMapping
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from fedstill import config
from fedstill.service.administration import Administrator
from fedstill.service.clerk import Bell
from fedstill.service.consortium import Consortium
from fedstill.service.founding import found
from fedstill.service.http.api import create_app
from fedstill.service.http.gate import PEER, Receive, Send
from fedstill.service.limits import Limits
from fedstill.service.rights import OPEN, RIGHTS
from fedstill.service.serving import open_desk
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.letters import read, unpack_parcels
from fedstill.transports.roles import Role

schemathesis = pytest.importorskip("schemathesis")
CONFIG = schemathesis.config.SchemathesisConfig.from_dict(
    {
        "checks": {
            # No document can tell a request for a certificate, or somebody's name, from any other text.
            "positive_data_acceptance": {"enabled": False},
            "negative_data_rejection": {"expected-statuses": [401, 403, 404, 409, 413, 416, 422]},
        }
    }
)
EXAMPLES = 20
"""Requests of each kind (good, bad) to each operation."""

UNBOUNDED = Limits(requests_per_s=1e6, burst=10**6, enrolments_per_minute=1e6)
NAMES = {Role.PARTICIPANT: "plant-a", Role.OPERATOR: "olga", Role.AUDITOR: "ada"}


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    folder = tmp_path_factory.mktemp("openapi")
    rows = "\n".join(f"{i % 7},{i % 5},{('no', 'yes')[i % 2]}" for i in range(40))
    (folder / "table.csv").write_text(f"x,z,y\n{rows}\n", encoding="utf-8")
    table = {"file": str(folder / "table.csv")}
    file = config.parse(
        {
            "task": {"kind": "classification", "target": "y", "classes": ["no", "yes"], "columns": ["x", "z"]},
            "data": table,
            "transfer": {**table, "items": 3},
            "strategy": {"name": "fedmd"},
            "participants": [{"name": "plant-a"}, {"name": "plant-b"}],
        }
    )
    with closing(found(folder / "duo", file, folder, "https://127.0.0.1:18999")) as founded:
        assert founded.store.lead("test", 0.0, 1.0)
        yield founded


@pytest.fixture(scope="module")
def schema(consortium: Consortium) -> Iterator[Any]:
    """The document, with an app that takes every request for one of somebody who may make it."""
    fingerprints = {role: _joined(consortium, name, role) for role, name in NAMES.items()}
    bell = Bell()
    _joined(consortium, "plant-b", Role.PARTICIPANT)
    desk, administration = open_desk(consortium, bell), Administrator(consortium)
    desk.tick()  # all are there: the run begins
    app = create_app(desk, bell=bell, limits=UNBOUNDED, administration=administration)

    async def admitted(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"  # its life does not end with a test
        role = _role(scope["method"], scope["path"])
        peer = {"fingerprint": fingerprints[role], "ends": time.time() + 1000}
        scope["extensions"] = {PEER: peer}
        await app(scope, receive, send)

    yield schemathesis.openapi.from_asgi("/v1/openapi.json", admitted, config=CONFIG)
    asyncio.run(app.state.house.clerk.close())


def _joined(consortium: Consortium, name: str, role: Role) -> str:
    token = consortium.registry.invite(name, role, 1)
    certificate, _ = consortium.registry.enrol(token, Identity.create().request_pem(name))
    return Certificate.from_pem(certificate).fingerprint


def _role(method: str, path: str) -> Role:
    """One that may ask for this."""
    route = "/v1/payloads/{digest}" if path.startswith("/v1/payloads/") else path
    welcome = RIGHTS.get(f"{method} {route}", frozenset())
    return next((role for role in NAMES if role in welcome), Role.PARTICIPANT)


OPERATIONS = sorted((OPEN | RIGHTS.keys()) - {"GET /v1/openapi.json"})


def test_the_document_names_every_operation(schema: Any) -> None:
    described = {f"{one.ok().method.upper()} {one.ok().path}" for one in schema.get_all_operations()}
    assert described == set(OPERATIONS)


@pytest.mark.parametrize(("asked", "status"), [("", 200), ("bytes=5-", 206), ("bytes=99999-", 416)])
def test_a_payload_comes_as_the_document_says(asked: str, status: int, schema: Any, consortium: Consortium) -> None:
    letters = schema["/v1/letters"]["GET"].Case(query={"after": 0}).call()
    (parcel,) = unpack_parcels(letters.content, 2**20)
    digest = read(parcel.letter).header.digest
    case = schema["/v1/payloads/{digest}"]["GET"].Case(path_parameters={"digest": digest}, headers={"Range": asked})
    assert case.call_and_validate().status_code == status


@pytest.mark.parametrize("operation", OPERATIONS)
def test_answers_are_those_of_the_document(operation: str, schema: Any) -> None:
    method, path = operation.split()
    described = schema[path][method]
    for mode in schemathesis.GenerationMode:
        if mode is schemathesis.GenerationMode.NEGATIVE and not _says_something(described):
            continue  # there is nothing that could be wrong
        _ask(described.as_strategy(mode))


def _says_something(described: Any) -> bool:
    """Whether something is asked for that can be wrong: bytes cannot be, and a wrong path is another path."""
    takes_json = any("json" in body.media_type for body in described.body)
    return bool(takes_json or described.query or described.headers)


def _ask(cases: Any) -> None:
    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=HealthCheck)
    @given(case=cases)
    def ask(case: Any) -> None:
        if _is_wait((case.query or {}).get("wait_s")):
            case.query["wait_s"] = 0.01  # nothing comes, however long it waits
        case.call_and_validate()

    ask()


def _is_wait(value: object) -> bool:
    try:
        return 0 <= float(str(value)) <= 60
    except ValueError:
        return False
