"""The MQTT link against a real broker on this machine: what it brings, what it survives, and what it says."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import socket
import threading
import time
from datetime import UTC, datetime

import pytest

from fedstill.errors import ConfigError, LinkDown, LinkRefused, WireError
from fedstill.service.limits import Limits
from fedstill.testing.broker import BRIEF, MOSQUITTO, QUICK, Mosquitto, bridged, free_ports, linked
from fedstill.testing.coordinator import TERMS, Consortium
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.letters import COORDINATOR, INLINE_BYTES, Header, digest_of, write
from fedstill.transports.links import Link
from fedstill.transports.mqtt.connection import Connection
from fedstill.transports.mqtt.frames import (
    Address,
    Answer,
    Extent,
    Fetch,
    Gone,
    Look,
    Parcels,
    Part,
    Piece,
    Request,
    Verdict,
    pack,
    unpack,
)
from fedstill.transports.mqtt.line import Patience
from fedstill.transports.mqtt.link import MqttLink, enrol
from fedstill.transports.mqtt.window import Timing
from fedstill.transports.roles import Role
from fedstill.transports.tls import client_side

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture
def changed(consortium, tmp_path):
    """A broker whose files were changed, as {name: (pattern, replacement)}, before it starts."""
    brokers = []

    def changed(**files):
        broker = Mosquitto(tmp_path / "broker", consortium.authority)
        for name, (old, new) in files.items():
            path = tmp_path / "broker" / name.replace("_", ".")
            assert re.search(old, path.read_text())
            path.write_text(re.sub(old, new, path.read_text()))
        broker.start()
        brokers.append(broker)
        return broker

    yield changed
    for broker in brokers:
        broker.kill()


@pytest.fixture
def meet(consortium, blobs):
    """Runs `work(link, hall)` with a coordinator and a member named "ann" at a broker."""

    def meet(broker, work, patience=QUICK, limits=None, blobs=blobs):
        async def main():
            async with (
                bridged(broker, consortium, blobs, limits or Limits(burst=10_000)) as hall,
                linked(consortium, broker.address, hall.desk.join("ann"), patience) as link,
            ):
                return await asyncio.wait_for(work(link, hall), 60)

        return asyncio.run(main())

    return meet


def alone(consortium, address, work, papers=None, patience=QUICK, **more):
    """Runs `work(link)` with nobody at the other end."""

    async def main():
        async with linked(consortium, address, papers or consortium.papers("ann"), patience, **more) as link:
            return await asyncio.wait_for(work(link), 60)

    return asyncio.run(main())


def letter(hall, number, payload, identity):
    return hall.desk.letter("ann", COORDINATOR, number, payload, identity)


@pytest.fixture
def ann(consortium):
    return consortium.papers("ann").identity


# What it brings.


def test_a_link_brings_terms_letters_and_payloads(meet, broker, ann):
    small, large = b"small", os.urandom(5_000_000)

    async def work(link: Link, hall):
        assert await link.terms() == TERMS
        assert abs(await link.clock() - time.time()) < 10
        (mail,) = hall.desk.send("ann", large)
        (parcel,) = await link.letters(0, 0)
        assert parcel.payload is None
        assert await link.fetch(mail, len(large)) == large
        assert await link.letters(1, 0.01) == []
        hall.desk.send("ann", b"")
        assert (await link.letters(1, 5))[0].payload == b""
        assert await link.fetch(hall.desk.blobs.put(b""), 0) == b""
        for number, payload in enumerate([small, large, b"", b"x" * INLINE_BYTES, b"x" * (INLINE_BYTES + 1)], 1):
            sent = letter(hall, number, payload, ann)
            assert await link.post(sent, payload) == ""
            assert await link.post(sent, payload) == ""  # twice does no harm
        batches = hall.desk.batches
        assert batches[0] == [("ann", batches[0][0][1], None)]
        assert hall.desk.blobs.get(digest_of(small)) == small
        assert hall.desk.blobs.get(digest_of(large)) == large
        return await link.post(letter(hall, 9, b"this", ann), b"that")

    assert "SHA-256" in meet(broker, work)


def test_letters_come_as_soon_as_they_are_announced(meet, broker):
    async def work(link, hall):
        waiting = asyncio.create_task(link.letters(0, 60))
        await asyncio.to_thread(hall.desk.asked.acquire)
        hall.desk.send("ann", b"news")
        return await waiting

    (parcel,) = meet(broker, work)
    assert parcel.payload == b"news"


def test_many_letters_come_in_several_answers(meet, broker):
    async def work(link, hall):
        hall.desk.send("ann", *(bytes([n]) * INLINE_BYTES for n in range(10)))
        got = []
        while len(got) < 10:
            parcels = await link.letters(len(got), 0)
            assert 1 <= len(parcels) < 10
            got += parcels
        return [parcel.payload[0] for parcel in got]

    assert meet(broker, work) == list(range(10))


def test_large_terms_come_in_parts(meet, broker):
    async def work(link, hall):
        hall.desk.terms = os.urandom(1_000_000)
        assert await link.terms() == hall.desk.terms

    meet(broker, work)


def test_enrolling_and_renewing(meet, broker, consortium, tmp_path):
    identity, authority = Identity.create(), consortium.authority.cert_pem

    async def work(link, hall):
        hall.desk.tokens["secret"] = ("carl", Role.PARTICIPANT)
        request = identity.request_pem("carl")
        with pytest.raises(LinkRefused, match=r"no such invitation.*Ask the operator"):
            await enrol(broker.address, "guess", request, authority, patience=QUICK)
        certificate, told = await enrol(broker.address, "secret", request, authority, patience=QUICK)
        assert told == authority
        with pytest.raises(LinkRefused, match="no such invitation"):
            await enrol(broker.address, "secret", request, authority, patience=QUICK)
        (tmp_path / "carl.pem").write_bytes(certificate)
        (tmp_path / "carl.key").write_bytes(identity.key_pem)
        papers = consortium.papers("carl")._replace(certificate=tmp_path / "carl.pem", key=tmp_path / "carl.key")
        async with linked(consortium, broker.address, papers) as carl:
            assert await carl.terms() == TERMS
            renewed = await carl.renew(request)
        assert Certificate.from_pem(renewed).name == "carl"
        assert renewed != certificate

    meet(broker, work)


def test_names_are_of_any_language(meet, broker, consortium):
    async def work(link, hall):
        papers = hall.desk.join("Stadtwerke Süd 电力 & Co.")
        async with linked(consortium, broker.address, papers) as other:
            assert await other.terms() == TERMS

    meet(broker, work)


def test_small_packets_are_sent_at_once(meet, broker):
    async def work(link, hall):
        await link.terms()
        for connection in (link._line._connection, hall.bridge._connection):
            assert connection._client.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        began = time.perf_counter()
        for _ in range(10):
            await link.terms()
        assert time.perf_counter() - began < 0.4  # with Nagle's algorithm each takes 40 ms and more

    meet(broker, work)


def test_two_links_of_one_party_do_not_disturb_each_other(meet, broker, consortium):
    async def work(link, hall):
        polling = asyncio.create_task(link.letters(0, 30))
        await asyncio.to_thread(hall.desk.asked.acquire)
        async with linked(consortium, broker.address, consortium.papers("ann")) as stranger:
            with pytest.raises(LinkRefused, match="nobody who has joined"):  # has the name, not the certificate
                await stranger.terms()
        async with linked(consortium, broker.address, hall.desk.join("ann")) as second:
            assert await second.terms() == TERMS
        hall.desk.send("ann", b"news")
        assert len(await polling) == 1

    meet(broker, work)


# What it survives.


def test_transfers_go_on_when_a_broker_comes_back(meet, changed, ann):
    broker, up, down = changed(), os.urandom(5_000_000), os.urandom(5_000_000)
    patience = Patience(attempts=100, pause_s=0.01, timing=QUICK.timing)

    def interrupted(hall):
        """Count requests about pieces; the broker breaks down at the seventh."""
        office, pieces = hall.bridge._office, itertools.count(1)
        carry_out = office.carry_out

        async def counted(caller, body):
            if isinstance(body, Fetch | Piece) and next(pieces) == 7:
                await asyncio.to_thread(lambda: (broker.kill(), broker.start()))
            return await carry_out(caller, body)

        office.carry_out = counted
        return pieces

    async def post(link, hall):
        pieces = interrupted(hall)
        assert await link.post(letter(hall, 1, up, ann), up) == ""
        assert hall.desk.blobs.get(digest_of(up)) == up
        return next(pieces) - 1

    async def fetch(link, hall):
        pieces = interrupted(hall)
        (digest,) = hall.desk.send("ann", down)
        assert await link.fetch(digest, len(down)) == down
        return next(pieces) - 1

    for work in (post, fetch):
        assert 20 <= meet(broker, work, patience) <= 20 + QUICK.timing.widest + 2  # what had come was not sent again


def test_a_broker_that_dies_is_a_link_that_is_down_and_works_again(meet, changed):
    broker = changed()

    async def work(link, hall):
        waiting = asyncio.create_task(link.letters(0, 60))
        await asyncio.to_thread(hall.desk.asked.acquire)
        began = time.perf_counter()
        broker.kill()
        with pytest.raises(LinkDown, match="the connection broke"):
            await waiting
        with pytest.raises(LinkDown, match="no connection, or it broke"):
            await link.terms()
        assert time.perf_counter() - began < 5
        hall.bridge.connected.clear()
        broker.start()
        await asyncio.wait_for(hall.bridge.connected.wait(), 10)
        return await link.terms()

    assert meet(broker, work) == TERMS


def test_what_a_broker_drops_is_sent_again(meet, consortium, changed, ann):
    """It confirms messages that it then drops, because a queue is full: QoS 1 is no delivery."""
    broker = changed(mosquitto_conf=("max_queued_messages 1000", "max_queued_messages 1"))
    payloads = [os.urandom(4_000_000) for _ in range(4)]
    timing = Timing(first_s=0.05, least_s=0.05, most_s=0.3, queue_s=10, silence_s=20)

    def dropped():
        return any("Outgoing messages are being dropped" in line for line in broker.log)

    async def work(link, hall):
        connection, loop, came = hall.bridge._connection, asyncio.get_running_loop(), itertools.count()
        plug, hear, until = connection._plug, connection._heard, time.monotonic() + 10

        def slowly(topic, data):
            hear(topic, data)
            if next(came) == 40:  # so many are under way now that the broker has to drop some
                loop.remove_reader(plug)
                look()

        def look():
            if dropped() or time.monotonic() > until:
                loop.add_reader(plug, connection._read)
            else:
                loop.call_later(0.01, look)

        async def send(number, payload):
            papers = hall.desk.join("ann")
            async with linked(consortium, broker.address, papers, Patience(timing=timing)) as link:
                sent = letter(hall, number, payload, ann)
                assert await link.post(sent, payload) == ""
                return sent

        connection._heard = slowly
        sent = await asyncio.gather(*(send(n, payload) for n, payload in enumerate(payloads, 1)))
        taken = [letter for batch in hall.desk.batches for _, letter, _ in batch]
        assert sorted(taken) == sorted(sent)  # each was carried out once
        assert all(hall.desk.blobs.has(digest_of(payload)) for payload in payloads)

    meet(broker, work)
    assert dropped()


def test_what_an_old_upload_left_is_replaced(meet, broker, blobs, ann):
    payload = os.urandom(600_000)
    blobs.append(digest_of(payload), 0, b"nonsense")

    async def work(link, hall):
        return await link.post(letter(hall, 1, payload, ann), payload)

    assert meet(broker, work) == ""
    assert blobs.get(digest_of(payload)) == payload


def test_two_send_the_same_at_once(meet, broker, consortium, ann):
    payload = os.urandom(3_000_000)

    async def work(link, hall):
        async with linked(consortium, broker.address, hall.desk.join("ann")) as other:
            sent = letter(hall, 1, payload, ann)
            return await asyncio.gather(link.post(sent, payload), other.post(sent, payload))

    assert meet(broker, work) == ["", ""]


# What it says.


def test_nobody_there(consortium):
    (port,) = free_ports(1)
    with pytest.raises(LinkDown, match="no connection"):
        alone(consortium, f"mqtts://127.0.0.1:{port}/test", lambda link: link.terms())
    with pytest.raises(LinkDown, match="no connection"):
        alone(consortium, "mqtts://nowhere.invalid/test", lambda link: link.terms())


def test_nobody_answers_the_telephone(consortium):
    patience = Patience(connect_s=0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"mqtts://127.0.0.1:{silent.getsockname()[1]}/test"
        began = time.perf_counter()
        with pytest.raises(LinkDown):
            alone(consortium, address, lambda link: link.terms(), patience=patience)
        assert time.perf_counter() - began < 5


def test_no_mqtt_at_all(consortium):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble():
            plain, _ = listener.accept()
            plain.sendall(b"220 mail.example ESMTP\r\n\r\n")
            plain.close()

        thread = threading.Thread(target=babble)
        thread.start()
        address = f"mqtts://127.0.0.1:{listener.getsockname()[1]}/test"
        with pytest.raises(LinkDown, match="no connection"):
            alone(consortium, address, lambda link: link.terms())
        thread.join()


def test_garbage_instead_of_mqtt(consortium):
    import ssl

    papers = consortium.papers("hub", Role.SERVER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers.certificate, papers.key)
    for garbage in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x03\x00\x00\xff", bytes(100), os.urandom(100)):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def babble(listener=listener, garbage=garbage):
                tls = context.wrap_socket(listener.accept()[0], server_side=True)
                tls.recv(10_000)
                tls.sendall(garbage)
                tls.close()

            thread = threading.Thread(target=babble)
            thread.start()
            address = f"mqtts://127.0.0.1:{listener.getsockname()[1]}/test"
            with pytest.raises((LinkDown, LinkRefused)):
                alone(consortium, address, lambda link: link.terms(), patience=Patience(connect_s=3))
            thread.join()


def test_a_coordinator_that_is_away_is_noticed_at_once(consortium, broker):
    began = time.perf_counter()
    with pytest.raises(LinkDown, match="the other side is away"):
        alone(consortium, broker.address, lambda link: link.terms())
    assert time.perf_counter() - began < 5


def test_a_coordinator_that_leaves_says_so(meet, broker):
    async def work(link, hall):
        await link.terms()
        for _ in range(2):  # the second time another sitting leaves
            waiting = asyncio.create_task(link.letters(0, 60))
            await asyncio.to_thread(hall.desk.asked.acquire)
            await link.terms()
            await hall.leave()
            with pytest.raises(LinkDown, match="the coordinator has left"):
                await waiting
            await hall.enter()
        assert await link.terms() == TERMS

    meet(broker, work)


def test_a_coordinator_that_dies_is_said_to_be_gone_by_the_broker(meet, broker):
    async def work(link, hall):
        await link.terms()
        waiting = asyncio.create_task(link.letters(0, 60))
        await asyncio.to_thread(hall.desk.asked.acquire)
        hall.bridge._connection._client.socket().shutdown(socket.SHUT_RDWR)  # no farewell
        with pytest.raises(LinkDown, match="the coordinator has left"):
            await waiting

    meet(broker, work)


def test_a_broker_that_hangs_is_a_link_that_is_down(meet, changed):
    broker = changed()

    async def work(link, hall):
        await link.terms()
        broker.freeze()
        began = time.perf_counter()
        try:
            with pytest.raises(LinkDown, match=r"no answer for 0\.4 s"):
                await link.letters(0, 0)
        finally:
            broker.thaw()
        assert time.perf_counter() - began < 2
        assert await link.terms() == TERMS

    meet(broker, work, BRIEF)


def test_a_forbidden_message_is_an_error_and_not_silence(meet, changed):
    """The broker confirms it with "Not authorized"; clients that look at no reason codes lose it without a word."""
    broker = changed(members_acl=("pattern write", "pattern deny"))

    async def work(link, hall):
        began = time.perf_counter()
        with pytest.raises(LinkRefused, match=r"broker does not take a message: Not authorized.*Ask its operator"):
            await link.terms()
        assert time.perf_counter() - began < 5

    meet(broker, work)


def test_answers_that_the_broker_withholds_are_not_waited_for_for_ever(meet, changed):
    """It grants every subscription, also those that its ACL forbids."""
    broker = changed(members_acl=("pattern read .*/down/.*", ""))

    async def work(link, hall):
        with pytest.raises(LinkDown, match=r"no answer for 0\.4 s.*whether the broker lets this party hear"):
            await link.terms()

    meet(broker, work, BRIEF)


def test_a_broker_that_takes_small_packets_only_is_told_apart(consortium, changed):
    broker = changed(mosquitto_conf=(r"max_packet_size \d+", "max_packet_size 100000"))
    with pytest.raises(LinkRefused, match=r"MaximumPacketSize is 100000.*Ask its operator for"):
        alone(consortium, broker.address, lambda link: link.terms())


def test_a_broker_that_wants_a_certificate_of_another_authority(consortium, changed, tmp_path):
    other = Consortium(tmp_path, "other")
    (tmp_path / "foreign.pem").write_bytes(other.authority.cert_pem)
    broker = changed(mosquitto_conf=("cafile .*", f"cafile {tmp_path}/foreign.pem"))
    with pytest.raises((LinkRefused, LinkDown), match=r"accept this one's TLS|broke"):
        alone(consortium, broker.address, lambda link: link.terms())


def test_a_newcomer_at_the_port_of_members(consortium, broker):
    address = broker.address.partition("?")[0]

    async def main():
        await enrol(address, "x", Identity.create().request_pem("x"), consortium.authority.cert_pem, patience=QUICK)

    with pytest.raises((LinkRefused, LinkDown), match=r"accept this one's TLS|broke"):
        asyncio.run(main())


def test_a_broker_of_another_authority(consortium, broker, tmp_path):
    other = Consortium(tmp_path, "other")
    with pytest.raises(LinkRefused, match="not a server of this federation"):
        alone(
            consortium,
            broker.address,
            lambda link: link.terms(),
            papers=other.papers("ann"),
            authority_pem=other.authority.cert_pem,
        )


def test_a_broker_of_another_name(consortium, broker):
    address = broker.address.replace("127.0.0.1", "localhost")
    with pytest.raises(LinkRefused, match="Hostname mismatch"):
        alone(consortium, address, lambda link: link.terms())


def test_a_certificate_that_has_ended(consortium, broker):
    with pytest.raises(LinkRefused, match=r"certificate of 'ann' is valid from .* Enrol again"):
        alone(consortium, broker.address, lambda link: link.terms(), papers=consortium.papers("ann", days=10))


def test_a_revoked_party_is_refused(meet, broker):
    async def work(link, hall):
        hall.desk.members.clear()
        with pytest.raises(LinkRefused, match=r"nobody who has joined, or was revoked"):
            await link.terms()

    meet(broker, work)


def test_who_is_revoked_while_it_waits_gets_nothing(meet, broker):
    async def work(link, hall):
        waiting = asyncio.create_task(link.letters(0, 60))
        await asyncio.to_thread(hall.desk.asked.acquire)
        hall.desk.members.clear()
        hall.bridge._clerk._known.clear()  # what it knows holds for two seconds
        hall.desk.send("ann", b"news")
        with pytest.raises(LinkRefused, match="revoked"):
            await waiting

    meet(broker, work)


def test_a_clock_that_is_off_is_told(consortium, broker, blobs):
    async def main():
        async with bridged(broker, consortium, blobs) as hall:
            papers = hall.desk.join("ann")
            async with linked(consortium, broker.address, papers, clock=lambda: time.time() - 400) as link:
                with pytest.raises(LinkRefused, match=r"is -400 s off. Set the clock"):
                    await link.terms()

    asyncio.run(main())


def test_a_payload_over_the_bound_is_not_sent(meet, broker, ann):
    payload = bytes(10**7 + 1)

    async def work(link, hall):
        with pytest.raises(LinkRefused, match="over the coordinator's bound of 10000000"):
            await link.post(letter(hall, 1, payload, ann), payload)
        assert hall.desk.blobs.offset(digest_of(payload)) == 0

    meet(broker, work)


def test_a_payload_that_no_letter_names(meet, broker, blobs):
    async def work(link, hall):
        digest = blobs.put(b"of others")
        with pytest.raises(LinkRefused, match="no letter to you names such a payload"):
            await link.fetch(digest, 9)

    meet(broker, work)


def test_what_cannot_be_asked_is_not_sent(meet, broker):
    async def work(link, hall):
        with pytest.raises(WireError, match="cannot be said"):
            await link.fetch("no digest", 5)
        with pytest.raises(WireError, match="cannot be said"):
            await link.post(bytes(5000), b"")
        assert await link.letters(0, -5) == []

    meet(broker, work)


# Coordinators that are none.


@pytest.fixture
def scripted(consortium, broker):
    """Runs `work(link)` with a coordinator that answers every request with what `reply(body)` says."""

    def scripted(reply, work, signer=None, patience=QUICK):
        async def main():
            where, mine = Address.parse(broker.address), consortium.papers(COORDINATOR, Role.COORDINATOR)
            signer_ = signer or mine
            certificate = signer_.certificate.read_bytes()

            def heard(topic, data):
                request = unpack(data, Request).message
                answer = Answer(request.id, request.sender, bytes(16), time.time(), reply(request.body))
                packed = pack(answer, certificate, signer_.identity.sign)
                back = where.topics.gone if isinstance(answer.body, Gone) else where.topics.down(request.sender)
                connection.publish(back, packed, 10, lambda fault: None)

            context = client_side(consortium.authority.cert_pem, (mine.certificate, mine.key))
            connection = await Connection.open(where, context, "scripted", heard=heard, ended=lambda fault: None)
            try:
                await connection.subscribe(where.topics.up("+"))
                async with linked(consortium, broker.address, consortium.papers("ann"), patience) as link:
                    return await work(link)
            finally:
                await connection.close()

        return asyncio.run(main())

    return scripted


@pytest.mark.parametrize(
    ("call", "reply"),
    [
        (lambda link: link.letters(0, 0), Parcels(b"no parcels")),
        (lambda link: link.letters(0, 0), Verdict("")),
        (lambda link: link.terms(), Part(digest_of(b"others"), 4, b"some")),
        (lambda link: link.terms(), Part(digest_of(b"some"), 5, b"")),
        (lambda link: link.terms(), Part(digest_of(b"some"), 3, b"some")),
        (lambda link: link.terms(), Part(digest_of(b"some"), 2**60, b"some")),
        (lambda link: link.post(b"letter", b""), Extent(1, whole=True)),
        (lambda link: link.renew(b"request"), Verdict("")),
        (lambda link: link.fetch(digest_of(b"1"), 1), Part(digest_of(b"1"), 1, b"2")),
        (lambda link: link.fetch(digest_of(b"1"), 1), Part(digest_of(b"1"), 1, b"11")),
        (lambda link: link.fetch(digest_of(b"1"), 1), Part(digest_of(b"1"), 1, b"")),
        (lambda link: link.fetch(digest_of(b"1"), 1), Part(digest_of(b"1"), 2**60, b"1")),
    ],
)
def test_answers_that_are_not_what_they_should_be(scripted, call, reply):
    with pytest.raises(WireError):
        scripted(lambda body: reply, call)


def test_an_upload_that_never_ends_is_given_up(scripted):
    asked = []

    def reply(body):
        asked.append(body)
        return Extent(0, whole=False)

    payload, signer = bytes(300_000), Identity.create()
    said = Header(digest_of(TERMS), "ann", COORDINATOR, 1, "frame", digest_of(payload), len(payload), 0.0)
    with pytest.raises(LinkDown, match="does not arrive as it was sent"):
        scripted(reply, lambda link: link.post(write(said, signer.sign).to_bytes(), payload))
    assert [type(body) for body in asked] == 2 * [Piece] + 2 * [Look, Piece, Piece]  # three attempts; then it knows


def test_a_large_payload_whose_letter_cannot_be_read_is_not_sent(meet, broker):
    async def work(link, hall):
        with pytest.raises(WireError, match="not a letter"):
            await link.post(b"letter", bytes(300_000))

    meet(broker, work)


def test_a_large_payload_that_is_not_its_letters_is_found_out(meet, broker, ann):
    async def work(link, hall):
        with pytest.raises(LinkDown, match="does not arrive as it was sent"):
            await link.post(letter(hall, 1, b"this", ann), bytes(300_000))

    meet(broker, work)


def test_only_a_coordinator_can_answer(scripted, consortium, tmp_path):
    strangers = [consortium.papers("bob"), Consortium(tmp_path, "other").papers(COORDINATOR, Role.COORDINATOR)]
    strangers.append(consortium.papers(COORDINATOR, Role.COORDINATOR, days=10))
    for stranger in strangers:
        with pytest.raises(LinkDown, match="no answer"):
            scripted(lambda body: Part(digest_of(b""), 0, b""), lambda link: link.terms(), stranger, patience=BRIEF)


def test_a_farewell_from_another_sitting_is_not_heard(scripted):
    empty = Part(digest_of(b""), 0, b"")
    replies = iter([empty, Gone(), Gone(), empty, Gone()])

    async def work(link):
        assert await link.terms() == b""
        link._line._sitting = b"another sitting."
        assert await link.terms() == b""  # asked three times
        with pytest.raises(LinkDown, match="the coordinator has left"):
            await link.terms()

    scripted(lambda body: next(replies), work)


def test_what_a_coordinator_says_stays_on_its_line(scripted):
    reply = Verdict("a\nforged line\x1b[0m")
    assert scripted(lambda body: reply, lambda link: link.post(b"letter", b"")) == "a forged line [0m"


# What it cannot begin with.


def test_files_that_cannot_be_used(consortium, tmp_path):
    ann = consortium.papers("ann")
    (tmp_path / "text").write_text("no pem")
    fine = {"certificate": ann.certificate, "key": ann.key, "authority_pem": consortium.authority.cert_pem}
    foreign = Consortium(tmp_path, "foreign").papers("ann")
    for wrong in (
        {"certificate": tmp_path / "none"},
        {"certificate": tmp_path / "text"},
        {"key": consortium.papers("bob").key},
        {"authority_pem": b"no pem"},
        {"bundle": tmp_path / "text"},
        {"certificate": foreign.certificate, "key": foreign.key},
    ):
        with pytest.raises(ConfigError) as caught:
            MqttLink("mqtts://hub/test", **{**fine, **wrong})
        assert caught.value.remedy
        assert "PRIVATE" not in str(caught.value)


@pytest.mark.parametrize("name", ["north/south", "a+b", "#1", "$SYS"])
def test_names_that_cannot_stand_in_a_topic(consortium, tmp_path, name):
    identity, now = Identity.create(), datetime.now(UTC)
    pem = consortium.authority.certify(identity.request_pem(name), name, Role.PARTICIPANT, now, 30)
    (tmp_path / "c.pem").write_bytes(pem)
    (tmp_path / "c.key").write_bytes(identity.key_pem)
    with pytest.raises(ConfigError, match=r"cannot stand in a topic.*or over HTTPS"):
        MqttLink(
            "mqtts://hub/test",
            certificate=tmp_path / "c.pem",
            key=tmp_path / "c.key",
            authority_pem=consortium.authority.cert_pem,
        )


def test_a_closed_link_is_of_no_use(meet, broker):
    async def work(link, hall):
        waiting = asyncio.create_task(link.letters(0, 60))
        await asyncio.to_thread(hall.desk.asked.acquire)
        await link.close()
        with pytest.raises(LinkDown, match="closed"):
            await waiting
        await link.close()
        with pytest.raises(LinkDown, match="closed"):
            await link.terms()

    meet(broker, work)
