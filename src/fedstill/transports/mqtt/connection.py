"""A connection to an MQTT 5 broker (paho-mqtt), used from asyncio; what goes wrong comes as errors of ours.

paho is chosen because it reports negative confirmations (PUBACK), without which a forbidden message is lost in silence.
Its own loop uses `select`, which takes no file descriptor over 1023, as a server with many connections has, and a
thread for each; so it is driven by the event loop here. Only names are looked up, and TLS begun, in a thread, since
paho waits for these. Nothing is kept by the broker for who is away (no session): what came late would answer requests
that nobody waits for any more.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Self, cast

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from fedstill.errors import FedstillError, LinkDown, LinkRefused
from fedstill.transports.mqtt.frames import MAX_MESSAGE_BYTES, Address
from fedstill.transports.mqtt.proxies import proxy_to
from fedstill.transports.tls import refusal

KEEP_ALIVE_S = 20
GOODBYE_S = 2.0
MAX_PACKET_BYTES = MAX_MESSAGE_BYTES + 1024
"""Of a message with its topic and properties; a broker never sends larger ones here."""

MAX_WAITING_BYTES = 64 * 2**20
"""Of messages that the broker has not confirmed yet. Where they would be more, `publish` refuses."""

UNCONFIRMED = 20
"""Messages on their way to the broker at the same time: as many as Mosquitto takes by default."""

_MAY_PASS = frozenset({0x80, 0x83, 0x88, 0x89, 0x8B, 0x8D, 0x8E, 0x93, 0x96, 0x97, 0x98, 0x9C, 0x9F, 0xA0})
"""Reason codes after which the same can go well: broker busy, full, shutting down, session taken over ..."""
_NOBODY_LISTENS = 0x10

Confirm = Callable[[FedstillError | None], None]


class Connection:
    """One connection; made by `open`, and of no use once it has ended. Its methods are called in one event loop.

    Attributes
    ----------
    fault:
        Why it has ended; None before.
    """

    def __init__(
        self,
        address: Address,
        context: ssl.SSLContext,
        name: str,
        heard: Callable[[str, bytes], None],
        ended: Callable[[FedstillError], None],
    ) -> None:
        self.fault: FedstillError | None = None
        self._address = address
        self._heard, self._ended = heard, ended
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._subscribing: dict[int, asyncio.Future[None]] = {}
        self._confirming: dict[int, tuple[Confirm, int]] = {}
        self._waiting_bytes = 0
        self._closing, self._over = False, asyncio.Event()
        self._writing = False
        self._beat: asyncio.TimerHandle | None = None
        self._said = ""
        self._client = self._made(name, context)

    @classmethod
    async def open(
        cls,
        address: Address,
        context: ssl.SSLContext,
        name: str,
        *,
        heard: Callable[[str, bytes], None],
        ended: Callable[[FedstillError], None],
        will: tuple[str, bytes] | None = None,
        connect_s: float = 15.0,
    ) -> Self:
        """Connect.

        Parameters
        ----------
        address, context:
            Where the broker is, and how to know it.
        name:
            The client's; a broker ends an older connection of the same name.
        heard:
            Given the topic and content of messages. It must not raise.
        ended:
            Told why, when the connection has ended after it stood.
        will:
            Topic and content of what the broker says when this client falls silent.
        connect_s:
            How long to wait.

        Raises
        ------
        LinkDown, LinkRefused
            Where there is no connection.
        """
        self = cls(address, context, name, heard, ended)
        self._client.connect_timeout = connect_s
        if will is not None:
            self._client.will_set(*will, qos=1)
        connecting = self._loop.run_in_executor(None, self._connect)
        try:
            async with asyncio.timeout(connect_s):
                fault = await asyncio.shield(connecting)
                if fault is not None:
                    raise fault
                self._drive()
                await self._ready
        except BaseException as error:
            self._ended = lambda _: None
            self._ready.cancel()
            connecting.add_done_callback(lambda _: self._drop())  # now, or when the thread has given up
            if isinstance(error, TimeoutError):
                raise LinkDown("no answer in time", where=str(address), remedy="Check the network") from None
            raise
        return self

    async def subscribe(self, *topics: str) -> None:
        """Hear what comes to topics. Raises LinkDown, LinkRefused; brokers may also grant what they then withhold."""
        done = self._loop.create_future()
        code, number = self._client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in topics])
        if code is not MQTTErrorCode.MQTT_ERR_SUCCESS or number is None or self.fault is not None:
            raise self.fault or LinkDown("the connection has ended", where=str(self._address))
        self._subscribing[number] = done
        await done

    def publish(self, topic: str, data: bytes, expiry_s: float, confirm: Confirm) -> None:
        """Send a message.

        Parameters
        ----------
        topic, data:
            What and where.
        expiry_s:
            After which the broker need not deliver it any more.
        confirm:
            Called when the broker has it, with None; or with an error where it does not take it, or nobody listens.

        Raises
        ------
        LinkDown
            Where the connection has ended, or too much is not confirmed yet.
        """
        if self.fault is not None:
            raise self.fault
        if self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
            raise LinkDown("the broker does not keep up", where=str(self._address))
        sent = self._client.publish(topic, data, qos=1, properties=_expiring(max(1, round(expiry_s))))
        self._confirming[sent.mid] = confirm, len(data)
        self._waiting_bytes += len(data)

    async def close(self) -> None:
        """End the connection, once what was published is on its way. Doing so twice does no harm."""
        self._closing = True
        if self.fault is None:
            self._client.disconnect()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), GOODBYE_S)
            self._end(self._broken())

    # ---- how it is driven

    def _connect(self) -> FedstillError | None:
        """Begin TLS and say hello; in a thread, since paho waits. What went wrong, or None."""
        proxy = None
        try:
            proxy = proxy_to(self._address.host)
            if proxy is not None:
                self._client.proxy_set(**proxy)
            wanted = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            wanted.MaximumPacketSize = MAX_PACKET_BYTES
            wanted.SessionExpiryInterval = 0
            host, port = self._address.host, self._address.port
            self._client.connect(host, port, KEEP_ALIVE_S, clean_start=True, properties=wanted)
        except FedstillError as fault:
            return fault
        except Exception as error:  # paho's own, those of sockets, TLS, names and proxies
            said = one_line(f"{error}" or type(error).__name__)
            return refusal(error, str(self._address)) or LinkDown(
                f"no connection, or it broke: {said}",
                where=str(self._address),
                remedy="Try again; check the network" + ("" if proxy is None else ", and HTTPS_PROXY and NO_PROXY"),
            )
        return self._broken() if self._client.socket() is None else None

    def _drive(self) -> None:
        """Let the loop drive it from now on."""
        self._client.on_socket_close = lambda _, __, plug: self._forget(plug)
        self._loop.add_reader(self._plug, self._read)
        self._client.on_socket_register_write = lambda *_: self._soon()
        self._look_after()
        self._soon()

    @property
    def _plug(self) -> ssl.SSLSocket:
        return cast("ssl.SSLSocket", self._client.socket())

    def _forget(self, plug: Any) -> None:
        self._loop.remove_reader(plug)
        self._loop.remove_writer(plug)

    def _soon(self) -> None:
        """Write before the loop waits the next time: all that is said until then at once."""
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._writing = False
        if self.fault is None:
            self._did(self._client.loop_write)
        if self.fault is None:
            if self._client.want_write():
                self._loop.add_writer(self._plug, self._write)
            else:
                self._loop.remove_writer(self._plug)

    def _read(self) -> None:
        more = True
        while more and self.fault is None:  # what TLS has decrypted already wakes no loop
            self._did(self._client.loop_read)
            more = self.fault is None and bool(self._plug.pending())

    def _look_after(self) -> None:
        """Send what keeps the connection alive, and notice that the broker has fallen silent."""
        if self.fault is None:
            self._did(self._client.loop_misc)
            self._beat = self._loop.call_later(KEEP_ALIVE_S / 8, self._look_after)

    def _did(self, step: Callable[[], MQTTErrorCode]) -> None:
        """Do one of paho's steps, after which the connection may have ended."""
        try:
            code = step()
        except Exception as error:  # whatever it is: nobody else sees it, and many may wait
            self._said = self._said or f"{error}" or type(error).__name__
            code = MQTTErrorCode.MQTT_ERR_UNKNOWN
        if code is not MQTTErrorCode.MQTT_ERR_SUCCESS or self._client.socket() is None:
            self._end(self._broken())

    def _drop(self) -> None:
        self._closing = True
        self._end(LinkDown("this connection is closed", where=str(self._address)))

    def _end(self, fault: FedstillError) -> None:
        """The connection has ended; all who wait are told, once."""
        if self.fault is not None:
            return
        self.fault = fault
        self._over.set()
        if self._beat is not None:
            self._beat.cancel()
        plug = self._client.socket()
        if plug is not None:
            self._forget(plug)
            plug.close()
        stood = self._ready.done() and not self._ready.cancelled() and self._ready.exception() is None
        self._stands(fault)
        for number in tuple(self._subscribing):
            self._subscribed(number, fault)
        for number in tuple(self._confirming):
            self._confirmed(number, fault)
        if stood:
            self._ended(fault)

    # ---- what paho tells

    def _made(self, name: str, context: ssl.SSLContext) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTv5, reconnect_on_failure=False)
        client.tls_set_context(context)
        client.max_inflight_messages = UNCONFIRMED
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_publish = lambda _, __, number, code, ___: self._confirmed(number, self._meant(code, "a message"))
        client.on_subscribe = lambda _, __, number, codes, ___: self._subscribed(
            number, next(filter(None, (self._meant(code, "hearing answers") for code in codes)), None)
        )
        client.on_disconnect = self._on_disconnect
        client.on_socket_open = _send_at_once
        client.enable_logger(_Errors(self._on_error))
        return client

    def _on_connect(self, client: Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        del client, data, flags
        fault = self._meant(code, "the connection")
        for what, least in (("MaximumPacketSize", MAX_PACKET_BYTES), ("ReceiveMaximum", UNCONFIRMED)):
            if fault is None and getattr(properties, what, least) < least:
                fault = LinkRefused(
                    f"the broker's {what} is {getattr(properties, what)}",
                    where=str(self._address),
                    remedy=f"Ask its operator for {least}",
                )
        self._stands(fault)

    def _stands(self, fault: FedstillError | None) -> None:
        _settle(self._ready, fault)

    def _subscribed(self, number: int, fault: FedstillError | None) -> None:
        done = self._subscribing.pop(number, None)
        if done is not None:
            _settle(done, fault)

    def _confirmed(self, number: int, fault: FedstillError | None) -> None:
        confirm, size = self._confirming.pop(number, (None, 0))
        self._waiting_bytes -= size
        if confirm is not None:
            confirm(fault)

    def _on_message(self, client: Client, data: Any, message: MQTTMessage) -> None:
        del client, data
        with suppress(UnicodeDecodeError):
            topic = message.topic
            self._heard(topic, bytes(message.payload))

    def _on_disconnect(self, client: Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        del client, data, properties
        if flags.is_disconnect_packet_from_server:
            self._said = f"the broker ended it: {code}"

    def _on_error(self, text: str) -> None:
        self._said = text

    def _broken(self) -> FedstillError:
        if self._closing:
            return LinkDown("this connection is closed", where=str(self._address))
        reason = re.search(r"\[SSL: (\w+)\]", self._said)
        if reason:
            error = ssl.SSLError()
            error.reason = reason[1]
            refused = refusal(error, str(self._address))
            if refused is not None:
                return refused
        said = one_line(self._said) or "the broker ended it without a word"
        return LinkDown(f"the connection broke: {said}", where=str(self._address), remedy="Try again")

    def _meant(self, code: Any, what: str) -> FedstillError | None:
        """What a reason code means; None where all is well."""
        if code.value < 0x80 and code.value != _NOBODY_LISTENS:
            return None
        if code.value == _NOBODY_LISTENS:
            return LinkDown("the other side is away", where=str(self._address), remedy="Try again")
        kind = LinkDown if code.value in _MAY_PASS else LinkRefused
        return kind(
            f"the broker does not take {what}: {code}",
            where=str(self._address),
            remedy="Ask its operator what this certificate may do there",
        )


def _settle(done: asyncio.Future[None], fault: FedstillError | None) -> None:
    if done.done():
        return
    if fault is None:
        done.set_result(None)
    else:
        done.set_exception(fault)


@lru_cache
def _expiring(seconds: int) -> Properties:
    """To go with messages; paho makes large tables for each new one."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = seconds
    return properties


class _Errors(logging.Logger):
    """Hears of the errors that paho keeps to itself; `on_log` would have it put every packet into words."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__("paho", logging.ERROR)
        self._hear = hear

    def handle(self, record: logging.LogRecord) -> None:
        """See `logging.Logger`."""
        self._hear(record.getMessage())


def _send_at_once(client: Client, data: Any, plug: Any) -> None:
    """Else each small message waits some 40 ms for company (Nagle's algorithm and delayed confirmations)."""
    del client, data
    plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def one_line(text: str) -> str:
    """What another machine says, fit for a line of a log."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:500]).strip()
