"""Who may ask for what: every role at every door, over HTTPS and MQTT, and the page that says so."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import get_args

import pytest
from houses import opened

from fedstill.errors import ConfigError, LinkRefused
from fedstill.service.callers import Caller, Refused
from fedstill.service.clerk import Bell, Clerk
from fedstill.service.limits import Limits
from fedstill.service.mqtt.office import LIKE, Office
from fedstill.service.rights import MEMBERS, OPEN, RIGHTS
from fedstill.service.store.blobs import Blobs
from fedstill.testing.coordinator import Consortium, MemoryDesk
from fedstill.transports.letters import COORDINATOR, Parcel, digest_of, pack_parcels
from fedstill.transports.mqtt import frames
from fedstill.transports.roles import Role

ROLES = [role for role in Role if role is not Role.SERVER]  # whose certificate TLS takes for no client's
PAYLOAD = b"a payload" * 10_000
DIGEST = digest_of(PAYLOAD)


class Administration:
    """Fulfils `clerk.Administration`, and writes down what it is asked."""

    def __init__(self):
        self.asked = []

    def invite(self, name, role, days, by, *, mqtt=False):
        if name == "nobody":
            raise ConfigError("'nobody' is not named", remedy="Name somebody")
        if role is Role.AUDITOR:
            raise LinkRefused("not from afar")
        self.asked.append(("invite", name, role, days, by, mqtt))
        return b'{"an": "invite"}'

    def revoke(self, name, by):
        self.asked.append(("revoke", name, by))

    def export(self):
        yield from (b"an ", b"audit")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    consortium = Consortium(tmp_path_factory.mktemp("papers"))
    administration = Administration()
    with opened(consortium, tmp_path_factory.mktemp("blobs"), administration=administration) as house:
        house.administration = administration
        yield house


@pytest.fixture(scope="module")
def papers(house):
    """Of one party in each role."""
    return {role: house.desk.join(f"one {role}", role) for role in ROLES}


def asked(house, papers, role, endpoint):
    """A request that everybody who may is answered."""
    method, path = endpoint.split()
    name, pair, body, headers = f"one {role}", papers[role], None, {}
    house.now[0] += 10
    if endpoint == "POST /v1/renew":
        body = json.dumps({"request": pair.identity.request_pem(name).decode()})
    elif endpoint == "POST /v1/letters":
        body = pack_parcels([Parcel(house.desk.letter(name, COORDINATOR, 1, b"x", pair.identity), b"x")])
    elif endpoint == "POST /v1/invitations" or endpoint == "POST /v1/revocations":
        body = json.dumps({"name": "plant"})
    elif endpoint == "PATCH /v1/payloads/{digest}":
        body, headers = PAYLOAD[:10], {"Upload_Offset": "0"}
    elif endpoint == "GET /v1/payloads/{digest}":
        house.desk.send(name, PAYLOAD)
    digest = digest_of(b"another") if method == "PATCH" else DIGEST
    return house.ask(pair, method, path.format(digest=digest), body, **headers)


@pytest.mark.parametrize("endpoint", RIGHTS)
@pytest.mark.parametrize("role", ROLES)
def test_every_role_at_every_door(house, papers, role, endpoint):
    said = asked(house, papers, role, endpoint)
    if role in RIGHTS[endpoint]:
        assert said.status in (200, 204), said
        return
    assert said.status == 403
    if not endpoint.startswith("HEAD"):
        welcome = ", ".join(sorted(RIGHTS[endpoint]))
        assert said.json == {"error": f"not for the role '{role}'", "remedy": f"Ask as one of: {welcome}"}


@pytest.mark.parametrize("endpoint", sorted(OPEN | set(RIGHTS)))
def test_strangers_at_every_door(house, endpoint):
    method, path = endpoint.split()
    said = house.ask(None, method, path.format(digest=DIGEST))
    assert (said.status == 401) == (endpoint not in OPEN)


def test_the_table_names_every_route(house, papers):
    paths = house.ask(papers[Role.OBSERVER], "GET", "/v1/openapi.json").json["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert served | {"GET /v1/openapi.json"} == OPEN | set(RIGHTS)
    assert not set(RIGHTS) & OPEN


def test_letters_and_payloads_are_for_participants_alone():
    for endpoint, welcome in RIGHTS.items():
        if "letters" in endpoint or "payloads" in endpoint:
            assert welcome == {Role.PARTICIPANT}
        assert welcome <= MEMBERS


QUESTIONS = {
    frames.Terms: frames.Terms(0),
    frames.Letters: frames.Letters(0, 0.0),
    frames.Fetch: frames.Fetch(DIGEST, 0),
    frames.Look: frames.Look(DIGEST, 1),
    frames.Piece: frames.Piece(DIGEST, 10, 0, b"x"),
    frames.Post: frames.Post(b"no letter", b""),
    frames.Renew: frames.Renew(b"no request"),
}


def test_whatever_can_be_asked_over_mqtt_has_its_like():
    assert set(LIKE) == set(QUESTIONS) == set(get_args(frames.Question)) - {frames.Enrol}
    assert set(LIKE.values()) <= set(RIGHTS)


def test_every_role_over_mqtt(tmp_path):
    consortium = Consortium(tmp_path)
    desk = MemoryDesk(consortium, Blobs(tmp_path / "blobs", 1000))

    async def refused() -> dict[tuple[Role, type], bool]:
        clerk = Clerk(desk)
        office = Office(clerk, Bell(), Limits(), None)
        found = {}
        for role in ROLES:
            desk.join(f"one {role}", role)
            for kind, question in QUESTIONS.items():
                found[role, kind] = False
                try:
                    await office.carry_out(Caller(f"one {role}", role, ""), question)
                except Exception as fault:  # what is asked here makes little sense
                    found[role, kind] = isinstance(fault, Refused) and f"not for the role '{role}'" in fault.error
        await clerk.close()
        return found

    for (role, kind), no in asyncio.run(refused()).items():
        assert no == (role not in RIGHTS[LIKE[kind]]), (role, kind)


def test_what_operators_and_auditors_ask_for_is_done_in_their_name(house, papers):
    operator, done = papers[Role.OPERATOR], house.administration.asked
    done.clear()
    wish = {"name": "eve", "role": "observer", "days": 2, "mqtt": True}
    said = house.ask(operator, "POST", "/v1/invitations", json.dumps(wish))
    assert (said.status, said.json) == (200, {"an": "invite"})
    assert house.ask(operator, "POST", "/v1/revocations", '{"name": "eve"}').json == {"revoked": "eve"}
    assert done == [("invite", "eve", Role.OBSERVER, 2.0, "one operator", True), ("revoke", "eve", "one operator")]
    audit = house.ask(papers[Role.AUDITOR], "GET", "/v1/audit")
    assert (audit.body, audit.headers["Content-Type"]) == (b"an audit", "application/zip")


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("invitations", {"name": "nobody"}, 422, "'nobody' is not named"),
        ("invitations", {"name": "eve", "role": "auditor"}, 403, "not from afar"),
        ("invitations", {"name": "eve", "role": "coordinator"}, 422, "not what this takes: Invalid enum value"),
        ("invitations", {"name": ""}, 422, "not what this takes"),
        ("invitations", {"name": "x" * 65}, 422, "not what this takes"),
        ("invitations", {"name": "eve", "days": 0}, 422, "not what this takes"),
        ("invitations", {"name": "eve", "days": 1e9}, 422, "not what this takes"),
        ("invitations", {"name": "eve", "by": "somebody else"}, 422, "not what this takes"),
        ("invitations", {"name": "x" * 5000}, 413, "the body is over the bound of 4096 bytes"),
        ("revocations", {}, 422, "not what this takes"),
    ],
)
def test_what_cannot_be_asked(house, papers, path, body, status, error):
    said = house.ask(papers[Role.OPERATOR], "POST", f"/v1/{path}", json.dumps(body))
    assert said.status == status
    assert said.json["error"].startswith(error)


def test_there_may_be_nothing_to_administer(tmp_path):
    with opened(Consortium(tmp_path), tmp_path / "blobs") as house:
        said = house.ask(house.desk.join("ada", Role.AUDITOR), "GET", "/v1/audit")
    assert (said.status, said.json["error"]) == (404, "nothing is administered here")


def test_one_audit_is_on_its_way_at_a_time(house, papers):
    auditor, tls = papers[Role.AUDITOR], house.raw(papers[Role.AUDITOR])
    house.administration.export = lambda: (bytes(2**20) for _ in range(10**6))  # without end, as far as we care
    tls.sendall(b"GET /v1/audit HTTP/1.1\r\nHost: x\r\n\r\n")
    assert tls.recv(12) == b"HTTP/1.1 200"
    del house.administration.export
    second = house.ask(auditor, "GET", "/v1/audit")
    assert (second.status, second.headers["Retry-After"]) == (429, "60")
    tls.close()
    for _ in range(1000):  # until the server has noticed
        house.now[0] += 1
        if house.ask(auditor, "GET", "/v1/audit").status == 200:
            return
    pytest.fail("it waits for somebody who has gone")


def test_the_page_on_security_quotes_the_table():
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z]+ /[^`]+)` \|[^|]*\|([^|]*)\|$", page, re.MULTILINE)
    quoted = {endpoint: {word.strip() for word in who.split(",")} for endpoint, who in rows}
    assert quoted == {endpoint: set(map(str, welcome)) for endpoint, welcome in RIGHTS.items()} | {
        endpoint: {"anybody"} for endpoint in OPEN
    }
