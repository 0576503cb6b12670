"""The coordinator's side of MQTT: what it answers, to whom, how often, and what it passes over."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
import time
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest

from fedstill.errors import ConfigError, LinkDown, LinkRefused, RunError, WireError
from fedstill.service.callers import Caller, Refused
from fedstill.service.clerk import Bell, Clerk
from fedstill.service.limits import Limits
from fedstill.service.mqtt.bridge import MAX_BUSY
from fedstill.service.mqtt.mosquitto import write_broker
from fedstill.service.mqtt.office import Office
from fedstill.service.store.blobs import Blobs
from fedstill.testing.broker import MOSQUITTO, QUICK, Mosquitto, bridged, linked
from fedstill.testing.coordinator import TERMS, Consortium, MemoryDesk
from fedstill.transports.identity import Identity
from fedstill.transports.letters import COORDINATOR, digest_of
from fedstill.transports.mqtt.connection import Connection
from fedstill.transports.mqtt.frames import (
    MAX_MESSAGE_BYTES,
    PIECE_BYTES,
    Address,
    Answer,
    Enrol,
    Extent,
    Fetch,
    Letters,
    Look,
    Piece,
    Post,
    Request,
    Terms,
    Verdict,
    Working,
    newcomer,
    pack,
    unpack,
)
from fedstill.transports.mqtt.link import enrol
from fedstill.transports.roles import Role
from fedstill.transports.tls import client_side

needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture(scope="module")
def lawless(consortium, tmp_path_factory):
    """A broker that lets every member read and write everything."""
    folder = tmp_path_factory.mktemp("lawless")
    broker = Mosquitto(folder, consortium.authority)
    (folder / "members.acl").write_text("pattern readwrite #\n")
    with broker:
        yield broker


class Raw:
    """A client of a broker that says what it likes; `came` has what it hears."""

    def __init__(self):
        self.came, self._more = [], asyncio.Event()
        self.connection = None

    def heard(self, topic, data):
        self.came.append((topic, data))
        self._more.set()

    async def say(self, topic, data):
        """Say it; raises where the broker does not take it."""
        taken = asyncio.get_running_loop().create_future()
        self.connection.publish(
            topic, data, 10, lambda fault: taken.set_exception(fault) if fault else taken.set_result(None)
        )
        await taken

    async def answers(self, count):
        """What has come, once it is so many."""
        async with asyncio.timeout(10):
            while len(self.came) < count:
                self._more.clear()
                await self._more.wait()
        return [unpack(data, Answer).message for _, data in self.came]


@asynccontextmanager
async def raw(consortium, address, papers, *topics):
    client, where = Raw(), Address.parse(address)
    pair = (papers.certificate, papers.key) if papers else None
    if papers is None:
        where = Address(where.host, where.enrol_port, where.topics, where.enrol_port)
    context = client_side(consortium.authority.cert_pem, pair)
    name = "raw" if papers else topics[0].rpartition("/")[2]
    client.connection = await Connection.open(where, context, name, heard=client.heard, ended=lambda fault: None)
    try:
        await client.connection.subscribe(*topics)
        yield client
    finally:
        await client.connection.close()


def asked(papers, body, sender="ann", at=None, number=None):
    """A request, packed as a member does it."""
    request = Request(number or secrets.token_bytes(16), sender, time.time() if at is None else at, body)
    return pack(request, papers.certificate.read_bytes(), papers.identity.sign)


def run(work):
    asyncio.run(asyncio.wait_for(work(), 60))


UP, DOWN = "fedstill/test/up/", "fedstill/test/down/"


# Who asks.


@needs_broker
def test_a_request_on_the_topic_of_another_party_is_forbidden(consortium, broker, blobs):
    async def work():
        async with bridged(broker, consortium, blobs) as hall:
            bob = hall.desk.join("bob")
            async with raw(consortium, broker.address, bob, DOWN + "bob", DOWN + "ann") as client:
                for topic in (UP + "ann", DOWN + "ann", "fedstill/test/gone", "fedstill/test/new/up/x", "other"):
                    with pytest.raises(LinkRefused, match="Not authorized"):
                        await client.say(topic, asked(bob, Terms(0), "bob"))
                ann = hall.desk.join("ann")
                async with linked(consortium, broker.address, ann) as link:
                    await link.terms()
                assert client.came == []  # nor does it hear what is said to another
                await client.say(UP + "bob", asked(bob, Terms(0), "bob"))
                assert (await client.answers(1))[0].body.data == TERMS

    run(work)


@needs_broker
def test_where_a_broker_forbids_nothing_a_forger_still_gets_nowhere(consortium, lawless, blobs, tmp_path):
    stranger = Consortium(tmp_path, "test").papers("ann")

    async def work():
        async with bridged(lawless, consortium, blobs) as hall:
            ann, bob = hall.desk.join("ann"), hall.desk.join("bob")
            letter = hall.desk.letter("ann", COORDINATOR, 1, b"x", ann.identity)
            post = Post(letter, b"x")
            async with raw(consortium, lawless.address, bob, DOWN + "+") as client:
                changed = bytearray(asked(ann, post))
                changed[-1] ^= 1
                forged = [
                    (UP + "ann", asked(bob, post, "ann")),  # his certificate, her name
                    (UP + "ann", asked(bob, post, "bob")),  # his request on her topic
                    (UP + "bob", asked(ann, post, "ann")),  # hers on his
                    (UP + "ann", asked(ann._replace(identity=bob.identity), post)),  # her certificate, his key
                    (UP + "ann", asked(stranger, post)),  # an authority of the same name
                    (UP + "ann", bytes(changed)),
                    (UP + "ann/x", asked(ann, post)),
                    ("fedstill/test/new/up/ann", asked(ann, post)),
                    (UP + "", asked(ann, post, "")),
                    (UP + "ann", asked(ann, Enrol(b"pem"))),
                ]
                for topic, data in forged:
                    with suppress(LinkDown):  # nobody listens to some of these topics
                        await client.say(topic, data)
                await client.say(UP + "bob", asked(bob, Terms(0), "bob"))  # comes after all these
                assert [answer.to for answer in await client.answers(1)] == ["bob"]
                assert hall.desk.batches == []

    run(work)


@needs_broker
def test_a_replayed_request_is_not_carried_out_again(consortium, lawless, blobs):
    clock = [time.time()]

    async def work():
        async with bridged(lawless, consortium, blobs, clock=lambda: clock[0]) as hall:
            ann, bob = hall.desk.join("ann"), hall.desk.join("bob")
            letter = hall.desk.letter("ann", COORDINATOR, 1, b"x", ann.identity)
            async with raw(consortium, lawless.address, bob, UP + "ann", DOWN + "ann") as client:
                async with linked(consortium, lawless.address, ann) as link:
                    assert await link.post(letter, b"x") == ""
                while len(client.came) < 2:
                    await asyncio.sleep(0)
                (request,) = [data for topic, data in client.came if topic == UP + "ann"]
                (answer,) = [data for topic, data in client.came if topic == DOWN + "ann"]
                for _ in range(5):
                    await client.say(UP + "ann", request)
                while len(client.came) < 12:
                    await asyncio.sleep(0)
                assert [data for topic, data in client.came if topic == DOWN + "ann"] == 6 * [answer]
                assert len(hall.desk.batches) == 1
                # When answers are not kept any more, the request is too old.
                clock[0] += 301
                hall.bridge._docket._done.clear()
                await client.say(UP + "ann", request)
                while len(client.came) < 14:
                    await asyncio.sleep(0)
                last = next(data for topic, data in reversed(client.came) if topic == DOWN + "ann")
                assert "s off" in unpack(last, Answer).message.body.error
                assert len(hall.desk.batches) == 1

    run(work)


@needs_broker
def test_what_is_asked_again_while_it_is_worked_on_is_done_once(consortium, broker, blobs):
    async def work():
        async with bridged(broker, consortium, blobs) as hall:
            ann = hall.desk.join("ann")
            hall.desk.free.clear()
            request = asked(ann, Post(hall.desk.letter("ann", COORDINATOR, 1, b"x", ann.identity), b"x"))
            async with raw(consortium, broker.address, ann, DOWN + "ann") as client:
                for _ in range(4):
                    await client.say(UP + "ann", request)
                assert [type(answer.body) for answer in await client.answers(3)] == 3 * [Working]
                hall.desk.free.set()
                assert (await client.answers(4))[-1].body == Verdict("")
                assert len(hall.desk.batches) == 1

    run(work)


@needs_broker
def test_garbage_on_all_topics_is_passed_over(consortium, broker, blobs):
    async def work():
        async with bridged(broker, consortium, blobs) as hall:
            ann = hall.desk.join("ann")
            fine = asked(ann, Terms(0))
            garbage = [b"", b"\0", os.urandom(1000), b"FSm1", fine[:-1], fine + b"x", bytes(MAX_MESSAGE_BYTES)]
            garbage += [
                b"FSm1" + os.urandom(500),
                pack(Answer(bytes(16), "ann", bytes(16), 0.0, Working()), b"", bytes),
            ]
            async with raw(consortium, broker.address, ann, DOWN + "ann") as client:
                for data in garbage:
                    await client.say(UP + "ann", data)
            name = "f" * 32
            async with raw(consortium, broker.address, None, f"fedstill/test/new/down/{name}") as client:
                for data in garbage:
                    await client.say(f"fedstill/test/new/up/{name}", data)
            coordinator = consortium.papers(COORDINATOR, Role.COORDINATOR)
            async with linked(consortium, broker.address, ann) as link:
                assert await link.terms() == TERMS
                async with raw(consortium, broker.address, coordinator, "fedstill/test/up/+") as client:
                    waiting = asyncio.create_task(link.letters(0, 60))
                    await asyncio.to_thread(hall.desk.asked.acquire)
                    for data in garbage:
                        await client.say(DOWN + "ann", data)
                        await client.say("fedstill/test/gone", data)
                    hall.desk.send("ann", b"news")
                    assert len(await waiting) == 1

    run(work)


@needs_broker
def test_a_message_over_the_bound_does_not_reach_anybody(consortium, broker, blobs):
    async def work():
        async with bridged(broker, consortium, blobs) as hall:
            ann = hall.desk.join("ann")
            async with raw(consortium, broker.address, ann, DOWN + "ann") as client:
                with pytest.raises(LinkDown):
                    await client.say(UP + "ann", bytes(MAX_MESSAGE_BYTES + 2000))
            async with linked(consortium, broker.address, ann) as link:
                assert await link.terms() == TERMS

    run(work)


@needs_broker
def test_newcomers_hear_and_say_nothing_but_their_own(consortium, broker, blobs):
    async def work():
        async with bridged(broker, consortium, blobs) as hall:
            ann = hall.desk.join("ann")
            own = "fedstill/test/new/down/me"
            async with raw(consortium, broker.address, None, own, "#") as client:
                for topic in (UP + "ann", "fedstill/test/new/up/other", DOWN + "ann", "fedstill/test/gone"):
                    with pytest.raises(LinkRefused, match="Not authorized"):
                        await client.say(topic, asked(ann, Terms(0)))
                async with linked(consortium, broker.address, ann) as link:
                    await link.terms()
                await client.say("fedstill/test/new/up/me", asked(ann, Terms(0), "me"))
                guess = Request(bytes(16), "me", time.time(), Enrol(b"pem"))
                await client.say("fedstill/test/new/up/me", pack(guess, b"", newcomer(digest_of(b"guess"))))
                assert (await client.answers(1))[0].body.error == "there is no such invitation"
                assert {topic for topic, _ in client.came} == {own}

    run(work)


# How often, and what goes wrong.


@needs_broker
def test_who_asks_too_often_is_told_so(consortium, broker, blobs):
    async def work():
        async with bridged(broker, consortium, blobs, Limits(requests_per_s=0.01, burst=3)) as hall:
            async with linked(consortium, broker.address, hall.desk.join("ann")) as link:
                for _ in range(3):
                    await link.letters(0, 0)
                with pytest.raises(LinkDown, match=r"too many requests. Try again in \d+ s"):
                    await link.letters(0, 0)
                assert await link.terms() == TERMS  # bulk is bounded by what is under way
            async with linked(consortium, broker.address, hall.desk.join("bob")) as link:
                assert await link.letters(0, 0) == []

    run(work)


@needs_broker
def test_who_asks_for_too_much_at_once_has_to_ask_again(consortium, broker, blobs):
    async def work():
        async with bridged(broker, consortium, blobs, Limits(burst=10_000)) as hall:
            ann, bob = hall.desk.join("ann"), hall.desk.join("bob")
            async with raw(consortium, broker.address, ann, DOWN + "ann") as client:
                for _ in range(MAX_BUSY + 20):
                    await client.say(UP + "ann", asked(ann, Letters(0, 50.0)))
                async with linked(consortium, broker.address, bob) as link:
                    assert await link.terms() == TERMS
                assert hall.bridge._docket.under_way("ann") <= MAX_BUSY

    run(work)


@needs_broker
@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (LinkRefused("no", where="here", remedy="Do this"), LinkRefused, "here: no. Do this"),
        (WireError("bad"), LinkRefused, "bad"),
        (RunError("another leads"), LinkDown, "cannot work right now"),
        (OSError(errno.ENOSPC, "full"), LinkDown, "disk is full"),
        (ValueError("secret path"), LinkDown, "a fault inside the coordinator"),
        (LinkRefused("long" * 5000), LinkRefused, "long"),
    ],
)
def test_faults_at_the_desk_are_told(consortium, broker, blobs, fault, kind, said):
    async def work():
        async with (
            bridged(broker, consortium, blobs) as hall,
            linked(consortium, broker.address, hall.desk.join("ann")) as link,
        ):
            await link.terms()
            hall.desk.fault = fault
            with pytest.raises(kind, match=re.escape(said)) as caught:
                await link.letters(0, 0)
            assert "secret" not in str(caught.value)
            hall.desk.fault = None
            assert await link.terms() == TERMS
            assert not hall.bridge._docket._open
            assert hall.bridge._busy_bytes == 0

    run(work)


@needs_broker
def test_enrolling_is_bounded_and_can_be_closed(consortium, broker, blobs):
    request = Identity.create().request_pem("carl")

    async def work():
        authority = consortium.authority.cert_pem
        async with bridged(broker, consortium, blobs, Limits(enrolments_per_minute=2)):
            for said in ("no such invitation", "no such invitation"):
                with pytest.raises(LinkRefused, match=said):
                    await enrol(broker.address, "guess", request, authority, patience=QUICK)
            with pytest.raises(LinkDown, match="too many requests"):
                await enrol(broker.address, "guess", request, authority, patience=QUICK)
        async with bridged(broker, consortium, blobs, open_to_newcomers=False):
            with pytest.raises(LinkRefused, match="nobody can enrol here"):
                await enrol(broker.address, "guess", request, authority, patience=QUICK)

    run(work)


@needs_broker
def test_a_bridge_comes_back_with_its_broker(consortium, blobs, tmp_path):
    broker = Mosquitto(tmp_path / "broker", consortium.authority)
    broker.start()

    async def work():
        async with bridged(broker, consortium, blobs) as hall:
            for _ in range(2):
                broker.kill()
                while hall.bridge.connected.is_set():
                    await asyncio.sleep(0.001)
                broker.start()
                await hall.bridge.connected.wait()
            async with linked(consortium, broker.address, hall.desk.join("ann")) as link:
                assert await link.terms() == TERMS

    try:
        run(work)
    finally:
        broker.kill()


@needs_broker
def test_a_second_coordinator_with_the_same_key_ends_the_first_ones_connection(consortium, broker, blobs, tmp_path):
    papers = consortium.papers(COORDINATOR, Role.COORDINATOR)

    async def work():
        async with (
            bridged(broker, consortium, blobs, papers=papers) as first,
            bridged(broker, consortium, Blobs(tmp_path / "second", 10), papers=papers) as second,
        ):
            while first.bridge.connected.is_set():
                await asyncio.sleep(0.001)
            await first.leave()  # as a coordinator does that leads no more
            async with linked(consortium, broker.address, second.desk.join("ann")) as link:
                terms = b""
                while not terms:  # the first may have come back for a moment
                    await asyncio.wait_for(second.bridge.connected.wait(), 10)
                    with suppress(LinkDown):
                        terms = await link.terms()
                assert terms == TERMS

    run(work)


# What members may ask: without a broker.


@pytest.fixture
def office(consortium, blobs):
    bell = Bell()
    desk = MemoryDesk(consortium, blobs, bell.announce)
    clerk = Clerk(desk)
    yield Office(clerk, bell, Limits(max_payload_bytes=3 * PIECE_BYTES), None), desk
    asyncio.run(clerk.close())


def caller(desk, name="ann", role=Role.PARTICIPANT):
    return Caller(name, role, desk.join(name, role).fingerprint)


def pieces_of(payload):
    digest = digest_of(payload)
    return [
        Piece(digest, len(payload), at, payload[at : at + PIECE_BYTES]) for at in range(0, len(payload), PIECE_BYTES)
    ]


def test_pieces_are_put_in_order(office, blobs):
    office, desk = office
    payload = os.urandom(3 * PIECE_BYTES - 5)

    async def work():
        ann = caller(desk)
        later = [asyncio.create_task(office.carry_out(ann, piece)) for piece in pieces_of(payload)[::-1]]
        assert (await later[2]).present >= PIECE_BYTES
        assert await later[0] == Extent(len(payload), whole=True)
        for piece in pieces_of(payload):  # once more
            assert await office.carry_out(ann, piece) == Extent(len(payload), whole=True)

    run(work)
    assert blobs.get(digest_of(payload)) == payload


def test_payloads_that_no_letter_names_have_a_bound_over_mqtt_too(consortium, blobs):
    desk = MemoryDesk(consortium, blobs, Bell().announce)
    clerk = Clerk(desk, limits=Limits(pending_bytes=PIECE_BYTES))
    office = Office(clerk, Bell(), Limits(), None)
    (one,), (two,) = pieces_of(os.urandom(2000)), pieces_of(os.urandom(PIECE_BYTES))

    async def work():
        ann = caller(desk)
        assert (await office.carry_out(ann, one)).whole
        with pytest.raises(Refused, match="you have uploaded 2000 bytes"):
            await office.carry_out(ann, two)
        letter = desk.letter("ann", COORDINATOR, 1, one.data, Identity.create())
        assert await office.carry_out(ann, Post(letter, None)) == Verdict("")
        assert (await office.carry_out(ann, two)).whole
        await clerk.close()

    run(work)


def test_a_piece_whose_predecessor_never_comes_is_not_kept(office, blobs, monkeypatch):
    office, desk = office
    monkeypatch.setattr("fedstill.service.mqtt.uploads.HOLD_S", 0.01)
    first, second = pieces_of(os.urandom(PIECE_BYTES + 1))

    async def work():
        ann = caller(desk)
        assert await office.carry_out(ann, second) == Extent(0, whole=False)
        assert await office.carry_out(ann, first) == Extent(PIECE_BYTES, whole=False)
        assert await office.carry_out(ann, second) == Extent(PIECE_BYTES + 1, whole=True)

    run(work)


def test_pieces_cut_otherwise_fit_all_the_same(office, blobs):
    office, desk = office
    payload = os.urandom(1000)
    digest = digest_of(payload)

    async def work():
        ann = caller(desk)
        for at, end in ((0, 400), (300, 700), (100, 200), (700, 1000)):
            await office.carry_out(ann, Piece(digest, 1000, at, payload[at:end]))

    run(work)
    assert blobs.get(digest) == payload


def test_a_payload_that_is_another_is_deleted(office, blobs):
    office, desk = office

    async def work():
        ann = caller(desk)
        assert await office.carry_out(ann, Piece(digest_of(b"this"), 4, 0, b"that")) == Extent(0, whole=False)
        assert await office.carry_out(ann, Look(digest_of(b"this"), 4)) == Extent(0, whole=False)

    run(work)
    assert not blobs.has(digest_of(b"this"))


def test_sizes_are_bounded_before_anything_is_kept(office, blobs):
    office, desk = office
    digest, bound = digest_of(b"x"), 3 * PIECE_BYTES

    async def work():
        ann = caller(desk)
        for body in (Look(digest, bound + 1), Piece(digest, bound + 1, 0, b"x"), Piece(digest, 2**62, 2**61, b"")):
            with pytest.raises(Refused, match="over the coordinator's bound"):
                await office.carry_out(ann, body)
        with pytest.raises(WireError, match="over the end"):
            await office.carry_out(ann, Piece(digest, 2, 1, b"xx"))
        assert await office.carry_out(ann, Look(digest, bound)) == Extent(0, whole=False)

    run(work)
    assert blobs.offset(digest) == 0


def test_a_letter_without_its_payload_is_not_taken(office):
    office, desk = office

    async def work():
        ann = caller(desk)
        letter = desk.letter("ann", COORDINATOR, 1, b"absent", Identity.create())
        with pytest.raises(Refused, match="its payload is not here"):
            await office.carry_out(ann, Post(letter, None))
        with pytest.raises(WireError):
            await office.carry_out(ann, Post(b"no letter", None))

    run(work)
    assert desk.batches == []


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.OBSERVER, Role.AUDITOR])
def test_other_roles_read_the_terms_and_no_more(office, role):
    office, desk = office

    async def work():
        eve = caller(desk, "eve", role)
        assert (await office.carry_out(eve, Terms(0))).data == TERMS
        digest = digest_of(b"x")
        for body in (Letters(0, 0), Fetch(digest, 0), Look(digest, 1), Piece(digest, 1, 0, b"x"), Post(b"", b"")):
            with pytest.raises(Refused, match=f"not for the role '{role}'"):
                await office.carry_out(eve, body)
        with pytest.raises(Refused, match="not for"):
            await office.carry_out(caller(desk), Enrol(b""))

    run(work)


def test_a_newcomer_is_known_by_its_token(consortium, blobs):
    desk = MemoryDesk(consortium, blobs)
    clerk = Clerk(desk)

    class Book:
        def invitations(self):
            return [digest_of(b"one"), digest_of(b"two")]

        def enrol_hash(self, token_hash, request_pem):
            return token_hash.encode(), request_pem

    def envelope(token):
        request = Request(bytes(16), "x", 0.0, Enrol(b"pem"))
        return unpack(pack(request, b"", newcomer(digest_of(token))), Request)

    async def work():
        office = Office(clerk, Bell(), Limits(), Book())
        found = await office.enrol(envelope(b"two"))
        assert (found.certificate, found.authority) == (digest_of(b"two").encode(), b"pem")
        with pytest.raises(Refused, match="no such invitation"):
            await office.enrol(envelope(b"three"))
        await clerk.close()

    run(work)


# A broker's files.


def test_the_files_of_a_broker(consortium, tmp_path):
    now = datetime.now(UTC)
    path = write_broker(
        tmp_path / "b", consortium.authority, "mqtts://hub.example/club?enrol=8884", now, user="mosquitto"
    )
    text = path.read_text()
    for line in (
        "listener 8883 ",
        "listener 8884 ",
        "user mosquitto",
        "set_tcp_nodelay true",
        "require_certificate true",
    ):
        assert line in text.split("\n"), line
    assert "pattern write fedstill/club/up/%u" in (tmp_path / "b" / "members.acl").read_text()
    assert "%c" in (tmp_path / "b" / "newcomers.acl").read_text()
    assert (tmp_path / "b" / "broker.key").stat().st_mode & 0o077 == 0
    alone = write_broker(tmp_path / "c", consortium.authority, "mqtts://hub.example/club", now).read_text()
    assert alone.count("listener") == 2  # one, and per_listener_settings
    assert "\nuser " not in alone


@pytest.mark.parametrize("wrong", [{"address": "mqtts://hub"}, {"listen": "all\nallow_anonymous true"}])
def test_files_that_cannot_be_written(consortium, tmp_path, wrong):
    given = {"address": "mqtts://hub/club", "listen": ""} | wrong
    with pytest.raises(ConfigError):
        write_broker(tmp_path, consortium.authority, given["address"], datetime.now(UTC), listen=given["listen"])
    assert list(tmp_path.iterdir()) == []


@needs_broker
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root becomes another user")
def test_a_broker_that_cannot_read_its_key_says_so(consortium, tmp_path):
    """Started by root, it becomes another user first; the folder of this test is root's alone."""
    broker = Mosquitto(tmp_path / "broker", consortium.authority)
    broker.configuration.write_text(broker.configuration.read_text().replace("user root", "user nobody"))
    (tmp_path / "broker").chmod(0o700)
    with pytest.raises(RuntimeError, match=r"(?i)error|unable"):
        broker.start()
