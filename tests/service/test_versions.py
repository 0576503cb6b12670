"""Versions of the protocol that do and do not understand each other, over HTTPS and MQTT, in both directions."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from pathlib import Path

import msgspec
import pytest
from houses import opened
from hypothesis import given
from hypothesis import strategies as st

from fedstill.errors import LinkDown, LinkRefused, WireError
from fedstill.service.http import gate
from fedstill.service.rights import OPEN, RIGHTS
from fedstill.service.store.blobs import Blobs
from fedstill.testing.broker import MOSQUITTO, Mosquitto, bridged
from fedstill.testing.coordinator import TERMS, Consortium
from fedstill.transports.https import HttpsLink, enrol
from fedstill.transports.identity import Identity
from fedstill.transports.mqtt import frames, line
from fedstill.transports.mqtt.frames import No, Request, newcomer, pack, unpack
from fedstill.transports.mqtt.line import Patience
from fedstill.transports.mqtt.link import MqttLink
from fedstill.transports.mqtt.link import enrol as enrol_over_mqtt
from fedstill.transports.mqtt.window import Timing
from fedstill.transports.protocol import HEADER, PROTOCOL, SPOKEN, UNSAID, check_spoken
from fedstill.transports.roles import Role

needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")

MAJOR, MINOR = PROTOCOL
NEAR = [f"{MAJOR}.{MINOR + 1}", SPOKEN, f"{MAJOR}.{MINOR - 1}"]
NEWER = [f"{MAJOR}.{MINOR + 2}", f"{MAJOR + 1}.0", f"{MAJOR + 1}.{MINOR}", "9999.9999"]
OLDER = [f"{MAJOR - 1}.9", "0.0"]
GARBAGE = ["1", "1.", ".1", "1.1.1", "-1.1", "1.x", "one.one", " 1.1", "1.1 ", "99999.1", "1.1, 1.1", "१.१", "x" * 60]


# The rule.


def fits(one, other):
    try:
        check_spoken(participant=f"{one[0]}.{one[1]}", coordinator=f"{other[0]}.{other[1]}")
    except LinkRefused:
        return False
    return True


@given(*[st.tuples(st.integers(0, 9999), st.integers(0, 9999))] * 2)
def test_major_is_the_same_and_minor_differs_by_one_at_most(one, other):
    assert fits(one, other) == fits(other, one) == (one[0] == other[0] and abs(one[1] - other[1]) <= 1)


@given(st.integers(0, 50), st.integers(0, 50))
def test_a_step_up_on_either_side_always_works(major, minor):
    assert fits((major, minor), (major, minor + 1))
    assert fits((major, minor + 1), (major, minor))


def test_who_says_nothing_is_of_the_version_before():
    check_spoken(participant=UNSAID)
    check_spoken(coordinator=UNSAID)


@pytest.mark.parametrize("said", OLDER)
def test_an_older_participant_is_told_to_upgrade(said):
    with pytest.raises(LinkRefused, match=f"participant speaks version {said} .* coordinator {SPOKEN}") as caught:
        check_spoken(participant=said)
    assert caught.value.remedy == "Upgrade fedstill here"
    with pytest.raises(LinkRefused, match=f"participant speaks version {SPOKEN} .* coordinator {said}") as caught:
        check_spoken(coordinator=said)
    assert caught.value.remedy.startswith("Ask the operator to upgrade fedstill")


@pytest.mark.parametrize("said", NEWER)
def test_a_newer_participant_is_told_to_ask_for_an_upgrade(said):
    with pytest.raises(LinkRefused) as caught:
        check_spoken(participant=said)
    assert caught.value.remedy.startswith("Ask the operator to upgrade fedstill")
    with pytest.raises(LinkRefused) as caught:
        check_spoken(coordinator=said)
    assert caught.value.remedy == "Upgrade fedstill here"


@pytest.mark.parametrize("said", [*GARBAGE, "", "1.1\n", "\x1b[31m"])
def test_garbage_is_no_version(said):
    for side in ("participant", "coordinator"):
        with pytest.raises(LinkRefused, match=f"the {side} says '.*' where the version") as caught:
            check_spoken(**{side: said})
        assert str(caught.value).isprintable()


def test_the_page_on_versions_names_this_one():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "between-machines.md").read_text(encoding="utf-8")
    assert f"fedstill speaks {SPOKEN}, and who says nothing is taken for {UNSAID}" in page


# Over HTTPS.


@pytest.fixture(scope="module")
def consortium(tmp_path_factory):
    return Consortium(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def house(consortium, tmp_path_factory):
    with opened(consortium, tmp_path_factory.mktemp("blobs")) as house:
        yield house


@pytest.fixture
def ann(house):
    house.now[0] += 1000
    return house.desk.join("ann")


@pytest.mark.parametrize("said", [None, *NEAR])
def test_a_coordinator_serves_those_whom_it_understands(house, ann, said):
    answer = house.ask(ann, "GET", "/v1/terms", **({} if said is None else {"Fedstill_Protocol": said}))
    assert (answer.status, answer.body) == (200, TERMS)
    assert answer.headers[HEADER] == SPOKEN


@pytest.mark.parametrize("said", [*OLDER, *NEWER, *[one for one in GARBAGE if one.isascii() and one.strip() == one]])
def test_a_coordinator_refuses_others_and_says_what_to_do(house, ann, said):
    for endpoint in sorted(OPEN | set(RIGHTS)):
        method, path = endpoint.split()
        answer = house.ask(ann, method, path.format(digest="0" * 64), Fedstill_Protocol=said)
        assert answer.headers[HEADER] == SPOKEN
        if not path.startswith("/v1/"):  # for monitors, which speak nothing of ours
            assert answer.status != 403 or path == "/metrics"
            continue
        assert answer.status == 403
        if method != "HEAD":
            assert "rotocol" in answer.json["error"]
            assert "pgrade fedstill" in answer.json["remedy"]


def test_two_headers_are_one_too_many(house, ann):
    connection = house.connection(ann)
    connection.putrequest("GET", "/v1/terms")
    for _ in range(2):
        connection.putheader(HEADER, SPOKEN)
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 403
    assert json.loads(response.read())["error"].startswith("protocol: the participant says '1.1, 1.1'")
    connection.close()


def test_anybody_can_ask_a_coordinator_what_it_speaks(house):
    assert house.ask(None, "GET", "/health").json == {"alive": True, "protocol": SPOKEN}
    assert house.ask(None, "GET", "/v1/terms").headers[HEADER] == SPOKEN  # also where it says no


def ask(house, papers):
    async def main():
        link = HttpsLink(
            f"https://127.0.0.1:{house.server.port}",
            certificate=papers.certificate,
            key=papers.key,
            authority_pem=house.consortium.authority.cert_pem,
        )
        try:
            return await link.terms()
        finally:
            await link.close()

    return asyncio.run(main())


@pytest.fixture
def speaking(monkeypatch):
    """Makes the coordinator say that it speaks another version, or nothing."""

    def speak(said):
        name = HEADER if said is not None else "Something-Else"
        monkeypatch.setattr(gate, "_SPOKEN", (name.lower().encode(), (said or "").encode()))
        monkeypatch.setattr(gate, "check_spoken", lambda participant: None)  # and so it would not refuse

    return speak


@pytest.mark.parametrize("said", [None, *NEAR])
def test_a_participant_works_with_a_coordinator_that_it_understands(house, ann, speaking, said):
    speaking(said)
    assert ask(house, ann) == TERMS


@pytest.mark.parametrize(("said", "remedy"), [(OLDER[0], "Ask the operator"), (NEWER[0], "Upgrade"), ("x", "Upgrade")])
def test_a_participant_says_what_to_do_about_another_coordinator(house, ann, speaking, said, remedy):
    speaking(said)
    with pytest.raises(LinkRefused, match=r"protocol: .* protocol") as caught:
        ask(house, ann)
    assert caught.value.remedy.startswith(remedy)


def test_a_newcomer_of_another_version_does_not_use_up_its_invitation(house, monkeypatch):
    house.desk.tokens["token"] = ("new", Role.PARTICIPANT)
    identity = Identity.create()
    asked = f"https://127.0.0.1:{house.server.port}", "token", identity.request_pem("new")
    authority = house.consortium.authority.cert_pem
    monkeypatch.setattr("fedstill.transports.web.SPOKEN", NEWER[0])
    with pytest.raises(LinkRefused, match="Ask the operator to upgrade fedstill"):
        asyncio.run(enrol(*asked, authority))
    monkeypatch.undo()
    certificate, _ = asyncio.run(enrol(*asked, authority))
    assert Identity.from_pem(identity.key_pem, certificate)


# Over MQTT.


def test_a_request_of_the_version_before_is_read():
    """It had four fields."""
    before = msgspec.msgpack.encode((bytes(16), "ann", 1.0, ("Terms", 0)))
    packed = frames._MAGIC + msgspec.msgpack.encode((b"", bytes(64), before))
    assert unpack(packed, Request).message == Request(bytes(16), "ann", 1.0, frames.Terms(0), UNSAID)


def later(said, *, protocol, fields=()):
    """A request that this version has no words for, below a newcomer's seal."""
    request = msgspec.msgpack.encode((bytes(range(16)), said, time.time(), ["Dance", 1, 2], protocol, *fields))
    context = frames._CONTEXTS[Request] + hashlib.sha256(request).digest()
    return frames._MAGIC + msgspec.msgpack.encode((b"", newcomer("ab" * 32)(context), request))


def test_what_a_later_version_asks_is_read_as_far_as_needed_to_say_no():
    message = unpack(later("ann", protocol="1.7", fields=("more",)), Request).message
    assert (message.sender, message.body, message.protocol) == ("ann", frames.Later(), "1.7")
    with pytest.raises(WireError):  # of this version it is garbage
        unpack(later("ann", protocol=SPOKEN), Request)
    with pytest.raises(WireError):
        unpack(later("ann", protocol="x" * 65), Request)
    with pytest.raises(WireError):
        unpack(later("x" * 65, protocol="1.7"), Request)
    with pytest.raises(WireError):  # and cannot be said
        pack(Request(bytes(16), "ann", 1.0, frames.Later(), "1.7"), b"", newcomer("ab" * 32))


@pytest.fixture(scope="module")
def broker(consortium, tmp_path_factory):
    with Mosquitto(tmp_path_factory.mktemp("broker"), consortium.authority) as broker:
        yield broker


QUICK = Patience(attempts=1, pause_s=0, timing=Timing(first_s=0.3, least_s=0.1, silence_s=5))


@needs_broker
def test_versions_over_mqtt(consortium, broker, tmp_path, monkeypatch):
    authority = consortium.authority.cert_pem
    request = Identity.create().request_pem("new")

    async def work():
        async with bridged(broker, consortium, Blobs(tmp_path / "blobs", 1000)) as hall:
            ann = hall.desk.join("ann")
            hall.desk.tokens["token"] = ("new", Role.PARTICIPANT)
            link = MqttLink(
                broker.address, certificate=ann.certificate, key=ann.key, authority_pem=authority, patience=QUICK
            )
            for said in (*NEAR, UNSAID):
                monkeypatch.setattr(line, "SPOKEN", said)
                assert await link.terms() == TERMS
            for said in (*OLDER, *NEWER, *GARBAGE):
                monkeypatch.setattr(line, "SPOKEN", said)
                with pytest.raises(LinkRefused, match="protocol") as caught:
                    await link.terms()
                assert "pgrade fedstill" in caught.value.remedy
            with pytest.raises(LinkRefused, match="protocol"):
                await enrol_over_mqtt(broker.address, "token", request, authority, patience=QUICK)
            assert list(hall.desk.tokens) == ["token"]
            await link.close()

    asyncio.run(work())


@needs_broker
@pytest.mark.parametrize(
    ("protocol", "says"), [("1.2", "this is no question here"), ("7.0", "version 7.0 of fedstill's protocol")]
)
def test_who_asks_something_new_over_mqtt_is_told(consortium, broker, tmp_path, monkeypatch, protocol, says):
    def packed(request, certificate, seal):
        """As a later version would."""
        said = msgspec.msgpack.encode((request.id, request.sender, request.at, ["Dance"], protocol, "more"))
        sealed = frames._CONTEXTS[Request] + hashlib.sha256(said).digest()
        return frames._MAGIC + msgspec.msgpack.encode((certificate, seal(sealed), said))

    async def work():
        async with bridged(broker, consortium, Blobs(tmp_path / "blobs", 1000)) as hall:
            ann = hall.desk.join("ann")
            authority = consortium.authority.cert_pem
            link = MqttLink(
                broker.address, certificate=ann.certificate, key=ann.key, authority_pem=authority, patience=QUICK
            )
            monkeypatch.setattr(line, "pack", packed)
            with pytest.raises(LinkRefused, match=says) as caught:
                await link.terms()
            assert "Ask the operator to upgrade fedstill" in caught.value.remedy
            request = Identity.create().request_pem("new")
            with pytest.raises((LinkRefused, LinkDown), match=says):
                await enrol_over_mqtt(broker.address, "token", request, authority, patience=QUICK)
            await link.close()

    asyncio.run(work())


def test_the_version_stands_below_the_seal():
    """So nobody between the two can make a request say another one."""
    seal = newcomer("ab" * 32)
    packed = pack(Request(bytes(16), "ann", 1.0, frames.Terms(0), "1.1"), b"", seal)
    changed = unpack(packed.replace(b"1.1", b"1.0"), Request)
    assert changed.message.protocol == "1.0"
    assert not frames.fits(changed, "ab" * 32)
    assert frames.fits(unpack(packed, Request), "ab" * 32)


def test_nobody_says_no_with_what_the_version_before_cannot_read():
    said = msgspec.msgpack.encode(No("why", "what to do", again=False))
    assert msgspec.msgpack.decode(said) == ["No", "why", "what to do", False]
