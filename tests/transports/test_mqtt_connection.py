"""A connection to a real broker: what brokers and clients are known to stumble over, and proxies on the way."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
import ssl
import sys
import threading
from contextlib import asynccontextmanager, suppress

import pytest

from fedstill.errors import ConfigError, LinkDown, LinkRefused, MissingExtra
from fedstill.testing.broker import MOSQUITTO, Mosquitto, bridged, linked
from fedstill.testing.coordinator import TERMS
from fedstill.transports.identity import Identity
from fedstill.transports.letters import COORDINATOR
from fedstill.transports.mqtt.connection import MAX_WAITING_BYTES, UNCONFIRMED, Connection
from fedstill.transports.mqtt.frames import Address
from fedstill.transports.mqtt.link import enrol
from fedstill.transports.mqtt.proxies import proxy_to
from fedstill.transports.roles import Role
from fedstill.transports.tls import client_side

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
UP = "fedstill/test/up/ann"


@asynccontextmanager
async def opened(consortium, address, name="ann", role=Role.PARTICIPANT, heard=lambda topic, data: None, **more):
    papers = consortium.papers(name, role)
    context = client_side(consortium.authority.cert_pem, (papers.certificate, papers.key))
    one = await Connection.open(
        Address.parse(address), context, f"test {name}", heard=heard, ended=lambda fault: None, **more
    )
    try:
        yield one
    finally:
        await one.close()


def run(work):
    return asyncio.run(asyncio.wait_for(work, 30))


# What brokers and clients are known to stumble over.


def test_many_messages_at_once_are_all_taken_whatever_number_a_broker_takes_at_a_time(consortium, broker):
    """Some clients run out of numbers for messages instead of waiting."""
    count, came = 50 * UNCONFIRMED, []

    async def work():
        loop = asyncio.get_running_loop()
        all_came, confirmed = loop.create_future(), []

        def heard(topic, data):
            came.append(int(data))
            if len(came) == count:
                all_came.set_result(None)

        async with (
            opened(consortium, broker.address, COORDINATOR, Role.COORDINATOR, heard) as listening,
            opened(consortium, broker.address) as speaking,
        ):
            await listening.subscribe("fedstill/test/up/+")
            for number in range(count):
                speaking.publish(UP, b"%d" % number, 10, confirmed.append)
            await all_came
            while len(confirmed) < count:
                await asyncio.sleep(0)
            assert set(confirmed) == {None}
            assert speaking._waiting_bytes == 0

    run(work())
    assert came == list(range(count))


def test_what_a_broker_does_not_confirm_does_not_fill_the_memory(consortium, tmp_path):
    with Mosquitto(tmp_path, consortium.authority) as broker:

        async def work():
            async with opened(consortium, broker.address) as one:
                broker.freeze()
                piece = bytes(2**18)
                for _ in range(MAX_WAITING_BYTES // len(piece)):
                    one.publish(UP, piece, 10, lambda fault: None)
                with pytest.raises(LinkDown, match="the broker does not keep up"):
                    one.publish(UP, b"x", 10, lambda fault: None)
                broker.thaw()

        run(work())


def test_a_broker_that_takes_few_messages_at_a_time_is_told_apart(consortium, tmp_path):
    broker = Mosquitto(tmp_path, consortium.authority)
    told = broker.configuration.read_text()
    broker.configuration.write_text(
        re.sub(r"(max_queued_messages .*)", r"\1\nmax_inflight_messages 5", told)  # before all listeners
    )

    async def work():
        async with opened(consortium, broker.address):
            pass

    with broker, pytest.raises(LinkRefused, match=rf"ReceiveMaximum is 5.*Ask its operator for {UNCONFIRMED}"):
        run(work())


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are counted otherwise there")
def test_descriptors_over_1023_are_no_matter(consortium, broker):
    """`select` takes none of these, and would not say why."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip("so many files cannot be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    held = []
    try:
        while not held or held[-1] < 1024:
            held.append(os.dup(0))

        async def work():
            confirmed = asyncio.get_running_loop().create_future()
            async with opened(consortium, broker.address) as one:
                assert one._plug.fileno() > 1023
                one.publish(UP, b"x", 10, confirmed.set_result)
                return await confirmed

        assert "the other side is away" in str(run(work()))
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("answer", [b"\x20\x03\x00\x84\x00", b"\x20\x02\x00\x01"])
def test_a_broker_that_knows_no_mqtt_5_is_an_error_and_no_silence(consortium, tmp_path, answer):
    """One of MQTT 3.1.1 says so in its own way, or in that of MQTT 5."""
    papers = consortium.papers("localhost", Role.SERVER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers.certificate, papers.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse():
            with suppress(OSError), context.wrap_socket(listener.accept()[0], server_side=True) as plug:
                plug.recv(10_000)
                plug.sendall(answer)

        thread = threading.Thread(target=refuse)
        thread.start()

        async def work():
            address = f"mqtts://127.0.0.1:{listener.getsockname()[1]}/test"
            async with opened(consortium, address, connect_s=5):
                pass

        with pytest.raises((LinkRefused, LinkDown), match=r"[Uu]nsupported protocol version|broke"):
            run(work())
        thread.join()


def test_no_thread_is_left_behind(consortium, broker):
    async def work():
        before = set(threading.enumerate())
        async with opened(consortium, broker.address), opened(consortium, broker.address, "bob"):
            return {thread.name for thread in set(threading.enumerate()) - before}

    assert all(name.startswith("asyncio") for name in run(work()))  # those of the loop, which names were looked up in


# Proxies.


class Proxy:
    """A proxy that CONNECTs to wherever it is asked, or answers with a status; knows where and for whom that was."""

    def __init__(self, status="200 OK"):
        self.status, self.asked = status, []
        self.port = 0

    @asynccontextmanager
    async def open(self):
        tasks = set()

        async def serve(reader, writer):
            tasks.add(asyncio.current_task())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *headers = head.split("\r\n")
            self.asked.append((line, [one for one in headers if one.startswith("Proxy-Authorization")]))
            writer.write(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
            if self.status.startswith("200"):
                host, _, port = line.split()[1].rpartition(":")
                there = await asyncio.open_connection(host, int(port))
                await asyncio.gather(carry(reader, there[1]), carry(there[0], writer))
            writer.close()

        async def carry(reader, writer):
            with suppress(ConnectionError):
                while data := await reader.read(2**16):
                    writer.write(data)
                    await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def proxied(monkeypatch):
    """Sets the variables as users do."""
    pytest.importorskip("socks")
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    def proxied(url, but=""):
        monkeypatch.setenv("HTTPS_PROXY", url)
        monkeypatch.setenv("NO_PROXY", but)

    return proxied


def test_a_broker_is_reached_through_a_proxy(consortium, broker, blobs, proxied):
    async def work():
        async with Proxy().open() as proxy, bridged(broker, consortium, blobs) as hall:
            proxied(f"http://me:se%40cret@127.0.0.1:{proxy.port}")
            async with linked(consortium, broker.address, hall.desk.join("ann")) as link:
                assert await link.terms() == TERMS
            hall.desk.tokens["word"] = ("carl", Role.PARTICIPANT)
            request = Identity.create().request_pem("carl")
            await enrol(broker.address, "word", request, consortium.authority.cert_pem)
            where = Address.parse(broker.address)
            proof = f"Proxy-Authorization: Basic {base64.b64encode(b'me:se@cret').decode()}"
            lines = [f"CONNECT {where.host}:{port} HTTP/1.1" for port in (where.port, where.enrol_port)]
            assert [line for line, _ in proxy.asked] == lines
            assert [[one.lower() for one in proofs] for _, proofs in proxy.asked] == 2 * [[proof.lower()]]

    run(work())


def test_no_proxy_is_asked_for_hosts_that_are_named(consortium, broker, blobs, proxied):
    async def work():
        async with Proxy().open() as proxy, bridged(broker, consortium, blobs) as hall:
            proxied(f"http://127.0.0.1:{proxy.port}", but="example.org,127.0.0.1")
            async with linked(consortium, broker.address, hall.desk.join("ann")) as link:
                assert await link.terms() == TERMS
            assert proxy.asked == []

    run(work())


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required"])
def test_a_proxy_that_refuses_is_named(consortium, broker, proxied, status):
    async def work():
        async with Proxy(status).open() as proxy:
            proxied(f"http://127.0.0.1:{proxy.port}")
            async with linked(consortium, broker.address, consortium.papers("ann")) as link:
                await link.terms()

    with pytest.raises(LinkDown, match=rf"{status[:3]}: {status[4:]}.*HTTPS_PROXY and NO_PROXY"):
        run(work())


def test_a_proxy_that_is_not_there(consortium, broker, proxied):
    proxied("http://127.0.0.1:1")

    async def work():
        async with linked(consortium, broker.address, consortium.papers("ann")) as link:
            await link.terms()

    with pytest.raises(LinkDown, match="HTTPS_PROXY and NO_PROXY"):
        run(work())


def test_what_is_set_for_a_proxy(proxied, monkeypatch):
    import socks

    proxied("proxy.example.org:3128")
    set_to = {"proxy_type": socks.HTTP, "proxy_addr": "proxy.example.org", "proxy_port": 3128}
    assert proxy_to("broker.example.org") == {**set_to, "proxy_username": None, "proxy_password": None}
    proxied("socks5://[::1]")
    assert proxy_to("broker")["proxy_type"] == socks.SOCKS5
    assert (proxy_to("broker")["proxy_addr"], proxy_to("broker")["proxy_port"]) == ("::1", 1080)
    for wrong in ("https://proxy:1", "http://proxy:port", "http://", "ftp://proxy"):
        proxied(wrong)
        with pytest.raises(ConfigError, match="HTTPS_PROXY: the proxy cannot be used"):
            proxy_to("broker")
    proxied("http://proxy")
    monkeypatch.setitem(sys.modules, "socks", None)
    with pytest.raises(MissingExtra, match="needs the package 'PySocks'"):
        proxy_to("broker")
    proxied("")
    assert proxy_to("broker") is None
