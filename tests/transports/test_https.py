"""The HTTPS link against a real server on this machine: what it brings, what it survives, and what it says."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import struct
import threading
from contextlib import contextmanager, suppress

import pytest

from fedstill.errors import ConfigError, LinkDown, LinkRefused, WireError
from fedstill.service.clerk import Bell
from fedstill.service.http.api import create_app
from fedstill.service.http.server import Server
from fedstill.service.limits import Limits
from fedstill.service.store.blobs import Blobs
from fedstill.testing.coordinator import TERMS, Consortium, MemoryDesk
from fedstill.transports.certificates import Certificate
from fedstill.transports.https import HttpsLink, Patience, enrol
from fedstill.transports.identity import Identity
from fedstill.transports.letters import COORDINATOR, INLINE_BYTES, digest_of
from fedstill.transports.links import Link
from fedstill.transports.roles import Role

PROXIES = [name for word in ("http", "https", "all", "no") for name in (f"{word}_proxy", f"{word}_proxy".upper())]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def consortium(tmp_path_factory):
    return Consortium(tmp_path_factory.mktemp("papers"))


@contextmanager
def serving(consortium, app, bell):
    papers = consortium.papers(COORDINATOR, Role.SERVER)
    authority = consortium.authority.cert_pem
    with Server(
        app, bell, host="127.0.0.1", port=0, certificate=papers.certificate, key=papers.key, authority_pem=authority
    ) as server:
        yield server.port


@pytest.fixture(scope="module")
def shared(consortium, tmp_path_factory):
    bell = Bell()
    desk = MemoryDesk(consortium, Blobs(tmp_path_factory.mktemp("blobs"), 10**7), bell.announce)
    app = create_app(desk, bell=bell, limits=Limits(burst=10_000, enrolments_per_minute=10_000))
    with serving(consortium, app, bell) as port:
        yield desk, port


@pytest.fixture
def desk(shared):
    return shared[0]


@pytest.fixture
def port(shared):
    return shared[1]


@pytest.fixture(scope="module")
def ann(shared):
    return shared[0].join("ann")


IMPATIENT = Patience(connect_s=5, answer_s=10, transfer_s=20, attempts=3, pause_s=0)


@pytest.fixture
def through(consortium, ann):
    """Does something with a link to a port, and closes it."""

    def through(port, work, papers=ann, patience=IMPATIENT, address="https://127.0.0.1:{}", **more):
        authority = more.pop("authority_pem", consortium.authority.cert_pem)

        async def main():
            link = HttpsLink(
                address.format(port),
                certificate=papers.certificate,
                key=papers.key,
                authority_pem=authority,
                patience=patience,
                **more,
            )
            try:
                return await work(link)
            finally:
                await link.close()

        return asyncio.run(main())

    return through


class Relay:
    """Passes TCP connections on, each until so many bytes went either way; then it breaks them.

    Parameters
    ----------
    port:
        Where to.
    allowances:
        Bytes of the first connections; further ones are not broken.
    connect:
        What to say as an HTTP proxy to CONNECT; None where it is none.
    """

    def __init__(self, port, allowances=(), connect=None):
        self.target, self.allowances, self.connect = port, list(allowances), connect
        self.passed, self.connections, self.heads = 0, 0, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._listener.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                allowance = self.allowances.pop(0) if self.allowances else 10**12
                threading.Thread(target=self._serve, args=(near, allowance), daemon=True).start()

    def _serve(self, near, allowance):
        if self.connect is not None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += near.recv(1)
            self.heads.append(head)
            near.sendall(self.connect)
            if b" 200 " not in self.connect:
                near.close()
                return
        far = socket.create_connection(("127.0.0.1", self.target))
        left = [allowance]
        pair = (near, far)
        for source, sink in (pair, pair[::-1]):
            threading.Thread(target=self._pump, args=(source, sink, left), daemon=True).start()

    def _pump(self, source, sink, left):
        with suppress(OSError):
            while data := source.recv(65536):
                left[0] -= len(data)
                self.passed += len(data)
                if left[0] < 0:
                    break
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                if left[0] < 0:  # as when a router dies: no farewell
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)
                one.close()


# What it brings.


def test_a_link_brings_terms_letters_and_payloads(through, desk, port, ann):
    small, large = b"small", os.urandom(INLINE_BYTES + 1)
    (mail,) = desk.send("ann", large)

    async def work(link: Link):
        assert await link.terms() == TERMS
        (parcel,) = await link.letters(0, 0)
        assert parcel.payload is None
        assert await link.fetch(mail, len(large)) == large
        assert await link.letters(1, 0.01) == []
        for number, payload in enumerate([small, large, b"", b"x" * INLINE_BYTES], 1):
            letter = desk.letter("ann", COORDINATOR, number, payload, ann.identity)
            assert await link.post(letter, payload) == ""
            assert await link.post(letter, payload) == ""  # twice does no harm
        return await link.post(desk.letter("ann", COORDINATOR, 9, b"this", ann.identity), b"that")

    assert "SHA-256" in through(port, work)
    assert [[party for party, *_ in batch] for batch in desk.batches] == [["ann"]] * 9
    assert [desk.blobs.get(digest_of(payload)) for payload in (small, large)] == [small, large]


def test_letters_come_as_soon_as_they_are_announced(through, desk, port):
    bob = desk.join("bob")
    while desk.asked.acquire(blocking=False):
        pass

    async def work(link):
        waiting = asyncio.create_task(link.letters(0, 60))
        await asyncio.to_thread(desk.asked.acquire)
        desk.send("bob", b"news")
        return await waiting

    (parcel,) = through(port, work, papers=bob)
    assert parcel.payload == b"news"


def test_enrolling_and_renewing(through, consortium, desk, port, tmp_path):
    identity, authority = Identity.create(), consortium.authority.cert_pem
    desk.tokens["secret"] = ("carl", Role.PARTICIPANT)

    def join():
        return asyncio.run(enrol(f"https://127.0.0.1:{port}", "secret", identity.request_pem("carl"), authority))

    certificate, told = join()
    assert told == authority
    with pytest.raises(LinkRefused, match=r"no such invitation.*Ask the operator"):
        join()
    papers = consortium.papers("carl")._replace(certificate=tmp_path / "carl.pem", key=tmp_path / "carl.key")
    papers.certificate.write_bytes(certificate)
    papers.key.write_bytes(identity.key_pem)

    async def work(link):
        return await link.terms(), await link.renew(identity.request_pem("carl"))

    terms, renewed = through(port, work, papers=papers)
    assert terms == TERMS
    assert Certificate.from_pem(renewed).name == "carl"
    assert renewed != certificate


def test_small_packets_are_sent_at_once(through, desk, port):
    (digest,) = desk.send("ann", bytes(5_000_000))

    async def work(link):
        async with link._web.ask("GET", f"/v1/payloads/{digest}") as response:  # not read, so the connection is kept
            plug = response.connection.transport.get_extra_info("socket")
            return plug.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    assert through(port, work)


# What it survives.


def test_transfers_go_on_where_they_were_cut_off(through, desk, port, ann):
    up, down = os.urandom(5_000_000), os.urandom(5_000_000)
    (digest,) = desk.send("ann", down)
    letter = desk.letter("ann", COORDINATOR, 1, up, ann.identity)
    patience = Patience(attempts=20, pause_s=0)

    async def post(link):
        return await link.post(letter, up)

    async def fetch(link):
        return await link.fetch(digest, len(down))

    for work, result in ((post, ""), (fetch, down)):
        # No connection lives long enough for all of it.
        with Relay(port, [1_500_000] * 1000) as relay:
            assert through(relay.port, work, patience=patience) == result
            assert relay.connections >= 4
    assert desk.blobs.get(digest_of(up)) == up


def test_a_transfer_that_moves_nothing_is_given_up(through, desk, port, ann):
    payload = os.urandom(1_000_000)
    letter = desk.letter("ann", COORDINATOR, 1, payload, ann.identity)
    with Relay(port, [0] * 100) as relay:
        with pytest.raises(LinkDown):
            through(relay.port, lambda link: link.post(letter, payload))
        assert relay.connections >= 3
        with pytest.raises(LinkDown):
            through(relay.port, lambda link: link.fetch("0" * 64, 5))


def test_a_payload_and_its_letter_take_one_request(through, desk, port, ann):
    payload = os.urandom(1_000_000)
    letter = desk.letter("ann", COORDINATOR, 1, payload, ann.identity)
    asked = []

    async def work(link):
        session = link._web._opened()
        session._request, real = (
            (lambda method, *a, **k: asked.append(method) or real(method, *a, **k)),
            session._request,
        )
        return await link.post(letter, payload)

    assert through(port, work) == ""
    assert asked == ["PATCH"]
    desk.blobs.sweep(set())
    desk.blobs.append(digest_of(payload), 0, payload[:300_000])
    assert through(port, work) == ""  # goes on behind what is there
    assert asked[1:] == ["PATCH", "HEAD", "PATCH"]
    assert through(port, work) == ""  # all is there
    assert asked[4:] == ["PATCH", "HEAD", "POST"]


def test_what_an_old_upload_left_is_replaced(through, desk, port, ann):
    payload = os.urandom(200_000)
    desk.blobs.append(digest_of(payload), 0, b"nonsense")
    letter = desk.letter("ann", COORDINATOR, 1, payload, ann.identity)
    assert through(port, lambda link: link.post(letter, payload)) == ""
    assert desk.blobs.get(digest_of(payload)) == payload


def test_two_upload_the_same_at_once(through, desk, port, ann):
    payload = os.urandom(3_000_000)
    letter = desk.letter("ann", COORDINATOR, 1, payload, ann.identity)
    patience = Patience(attempts=50, pause_s=0.001)

    async def both(link):
        return await asyncio.gather(link.post(letter, payload), link.post(letter, payload))

    assert through(port, both, patience=patience) == ["", ""]


# What it says.


def test_nobody_there(through):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(LinkDown, match=rf"127.0.0.1:{port}: no connection"):
        through(port, lambda link: link.terms())


def test_no_answer_in_time(through):
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(LinkDown, match="no answer in time"):
        through(silent.getsockname()[1], lambda link: link.terms(), patience=Patience(answer_s=0.1))


def test_no_member_any_more(through, desk, port, consortium):
    with pytest.raises(LinkRefused, match=r"coordinator \(403\): this certificate is of nobody who has joined"):
        through(port, lambda link: link.terms(), papers=consortium.papers("eve"))


def test_a_payload_that_is_not_for_everybody(through, desk, port):
    (digest,) = desk.send("somebody", os.urandom(100_000))
    with pytest.raises(LinkRefused, match=r"\(404\)"):
        through(port, lambda link: link.fetch(digest, 100_000))


@pytest.mark.parametrize(("size", "fault"), [(99_999, "larger than"), (100_001, r"\(416\)")])
def test_a_payload_of_another_size(through, desk, port, size, fault):
    (digest,) = desk.send("ann", bytes(100_000))
    with pytest.raises((WireError, LinkRefused), match=fault):
        through(port, lambda link: link.fetch(digest, size))


def test_a_payload_that_was_damaged(through, desk, port):
    (digest,) = desk.send("ann", b"1" * 100_000)
    desk.blobs.open_path(digest).write_bytes(b"2" * 100_000)
    with pytest.raises(WireError, match="another SHA-256"):
        through(port, lambda link: link.fetch(digest, 100_000))


def test_a_payload_over_the_bound_is_not_sent(through, desk, port, ann):
    payload = bytes(10**7 + 1)
    letter = desk.letter("ann", COORDINATOR, 1, payload, ann.identity)
    with Relay(port) as relay:
        with pytest.raises(LinkRefused, match="over the coordinator's bound of 10000000"):
            through(relay.port, lambda link: link.post(letter, payload))
        assert relay.passed < 100_000


def test_a_certificate_that_has_ended(through, consortium, port):
    with pytest.raises(LinkRefused, match=r"certificate of 'ann' is valid from .* Enrol again"):
        through(port, lambda link: link.terms(), papers=consortium.papers("ann", days=10))


def test_a_server_of_another_authority(through, port, tmp_path):
    other = Consortium(tmp_path, "other")
    foreign = {"papers": other.papers("ann"), "authority_pem": other.authority.cert_pem}
    with pytest.raises(LinkRefused, match="not a server of this federation"):
        through(port, lambda link: link.terms(), **foreign)


def test_a_server_of_another_name(through, consortium, port, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", here(socket.getaddrinfo))
    with pytest.raises(LinkRefused, match="not a server of this federation: Hostname mismatch"):
        through(port, lambda link: link.terms(), address="https://elsewhere.example:{}")


def here(getaddrinfo):
    return lambda host, *more, **named: getaddrinfo("127.0.0.1", *more, **named)


def test_a_server_that_says_why_it_ends_the_connection(through, consortium, tmp_path):
    """Its authority is another one, and unlike asyncio's servers it says so, within the handshake of TLS 1.2."""
    papers = consortium.papers(COORDINATOR, Role.SERVER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers.certificate, papers.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=Consortium(tmp_path, "other").authority.cert_pem.decode())
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def turn_down():
            plain, _ = listener.accept()
            with suppress(OSError):
                context.wrap_socket(plain, server_side=True)
            plain.close()

        thread = threading.Thread(target=turn_down)
        thread.start()
        with pytest.raises(LinkRefused, match="does not accept this one's TLS: tlsv1 alert unknown ca"):
            through(listener.getsockname()[1], lambda link: link.terms())
        thread.join()


@pytest.fixture(scope="module")
def scripted(consortium):
    """A server that answers whatever stands in `script`: status, headers, body."""
    script = {}

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        status, headers, body = script["answer"]
        pairs = [(name.encode(), text.encode()) for name, text in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})

    with serving(consortium, app, Bell()) as port:
        script["port"] = port
        yield script


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 507])
def test_what_may_pass_is_a_link_that_is_down(through, scripted, status):
    scripted["answer"] = (status, {}, b'{"error": "not now", "remedy": "Wait"}')
    with pytest.raises(LinkDown, match=rf"coordinator \({status}\): not now. Wait"):
        through(scripted["port"], lambda link: link.letters(0, 0))


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 405, 413, 422, 451])
def test_what_stays_is_a_refusal(through, scripted, status):
    scripted["answer"] = (status, {"Location": "https://127.0.0.1:1/"}, b"<html>\n" + bytes(1000))
    with pytest.raises(LinkRefused, match=rf"coordinator \({status}\): it answers {status}"):
        through(scripted["port"], lambda link: link.letters(0, 0))


@pytest.mark.parametrize(
    ("call", "body"),
    [
        (lambda link: link.letters(0, 0), b"no parcels"),
        (lambda link: link.letters(0, 0), bytes(17 * 2**20)),
        (lambda link: link.terms(), bytes(17 * 2**20)),
        (lambda link: link.post(b"letter", b""), b"no json"),
        (lambda link: link.post(b"letter", b""), b'{"why": 3}'),
        (lambda link: link.post(b"letter", bytes(INLINE_BYTES + 1)), b""),
        (lambda link: link.renew(b"request"), b'"\xff"'),
        (lambda link: link.fetch(digest_of(b"1"), 1), b"2"),
        (lambda link: link.fetch(digest_of(b"1"), 1), b"11"),
    ],
)
def test_answers_that_are_not_what_they_should_be(through, scripted, call, body):
    scripted["answer"] = (200, {}, body)
    with pytest.raises(WireError):
        through(scripted["port"], call)


def test_what_a_coordinator_says_stays_on_its_line(through, scripted):
    scripted["answer"] = (403, {}, b'{"error": "a\\nforged line\\u001b[0m", "remedy": ""}')
    with pytest.raises(LinkRefused) as caught:
        through(scripted["port"], lambda link: link.terms())
    assert caught.value.what == "a forged line [0m"


def test_no_http_at_all(through, consortium):
    papers = consortium.papers(COORDINATOR, Role.SERVER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers.certificate, papers.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble():
            tls = context.wrap_socket(listener.accept()[0], server_side=True)
            tls.recv(10_000)
            tls.sendall(b"220 mail.example ESMTP\r\n\r\n")
            tls.close()

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(LinkDown):
            through(listener.getsockname()[1], lambda link: link.terms())
        thread.join()


# Proxies.


def test_through_a_proxy(through, port, monkeypatch):
    with Relay(port, connect=b"HTTP/1.1 200 fine\r\n\r\n") as relay:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:word@127.0.0.1:{relay.port}")
        assert through(port, lambda link: link.terms()) == TERMS
        (head,) = relay.heads
        assert head.startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % port)
        assert b"Proxy-Authorization: Basic" in head
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert through(port, lambda link: link.terms()) == TERMS
        assert relay.connections == 1


@pytest.mark.parametrize(("status", "kind"), [(407, LinkRefused), (403, LinkRefused), (503, LinkDown)])
def test_a_proxy_that_says_no(through, port, monkeypatch, status, kind):
    with Relay(port, connect=b"HTTP/1.1 %d No way\r\n\r\n" % status) as relay:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{relay.port}")
        with pytest.raises(kind, match=f"the proxy answers {status} No way"):
            through(port, lambda link: link.terms())


@pytest.mark.parametrize("proxy", ["nonsense", "http://127.0.0.1:99999", "ftp://127.0.0.1:1", "http://[::1"])
def test_a_proxy_that_is_none(through, port, monkeypatch, proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises((LinkDown, LinkRefused)):
        through(port, lambda link: link.terms())


def test_a_bundle_is_trusted_too(through, consortium, port, tmp_path):
    """With another authority alone the server would be refused; the participant's own has to be given first."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(Consortium(tmp_path, "proxy").authority.cert_pem)
    assert through(port, lambda link: link.terms(), bundle=bundle) == TERMS
    other = Consortium(tmp_path, "other")
    bundle.write_bytes(consortium.authority.cert_pem)
    foreign = {"papers": other.papers("ann"), "authority_pem": other.authority.cert_pem}
    with pytest.raises(LinkDown):  # now the server is trusted, and it refuses the client
        through(port, lambda link: link.terms(), bundle=bundle, **foreign)


# What it cannot begin with.


@pytest.mark.parametrize(
    "address",
    [
        *("", "hub", "http://hub", "https://", "https://hub:0", "https://hub:x", "https://hub:99999", "https://[::1"),
        *("https://hub/path", "https://hub?x", "https://user@hub"),
    ],
)
def test_what_is_no_address(consortium, ann, address):
    with pytest.raises(ConfigError, match="address of a coordinator"):
        HttpsLink(address, certificate=ann.certificate, key=ann.key, authority_pem=consortium.authority.cert_pem)


def test_files_that_cannot_be_used(consortium, ann, tmp_path):
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
            HttpsLink("https://hub", **{**fine, **wrong})
        assert caught.value.remedy
        assert not re.search("PRIVATE", str(caught.value))


def test_a_closed_link_is_of_no_use(through, port):
    async def work(link):
        await link.terms()
        await link.close()
        await link.close()
        await link.terms()

    with pytest.raises(LinkDown, match="closed"):
        through(port, work)
