"""A connection to an MQTT 5 broker (paho-mqtt), used from asyncio; what goes wrong comes as errors of ours.

paho is chosen because it reports negative confirmations (PUBACK), without which a forbidden message is lost in silence.
Its own loop uses `select`, which takes no file descriptor over 1023, as a server with many connections has; so it is
driven here, by a thread of its own. Nothing is kept by the broker for who is away (no session): what came late would
answer requests that nobody waits for any more.
"""

from __future__ import annotations

import asyncio
import re
import selectors
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self, cast

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from fedstill.errors import FedstillError, LinkDown, LinkRefused
from fedstill.transports.mqtt.frames import MAX_MESSAGE_BYTES, Address
from fedstill.transports.tls import refusal

KEEP_ALIVE_S = 20
MAX_PACKET_BYTES = MAX_MESSAGE_BYTES + 1024
"""Of a message with its topic and properties; a broker never sends larger ones here."""

MAX_WAITING = 256
"""Messages that came or were sent and are not looked at or confirmed yet. More are dropped: they are sent again."""

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
        self._confirming: dict[int, Confirm] = {}
        self._came: deque[tuple[str, bytes]] = deque()
        self._closing = threading.Event()
        self._woken, self._waking = socket.socketpair()
        for end in (self._woken, self._waking):
            end.setblocking(False)
        self._said = ""
        self._client = self._made(name, context)
        self._thread = threading.Thread(target=self._drive, name=f"mqtt {name}", daemon=True)

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
            Given the topic and content of messages.
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
        self._thread.start()
        try:
            async with asyncio.timeout(connect_s):
                await self._ready
        except BaseException as error:
            self._ended = lambda _: None
            await self.close()
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
        self._wake()
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
        if len(self._confirming) >= MAX_WAITING:
            raise LinkDown("the broker does not keep up", where=str(self._address))
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = max(1, round(expiry_s))
        sent = self._client.publish(topic, data, qos=1, properties=properties)
        if sent.rc is MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise LinkDown("the broker does not keep up", where=str(self._address))
        self._confirming[sent.mid] = confirm
        self._wake()

    async def close(self) -> None:
        """End the connection. Doing so twice does no harm."""
        if self.fault is None:
            self._client.disconnect()
        self._closing.set()
        self._wake()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    # ---- in the loop

    def _stands(self, fault: FedstillError | None) -> None:
        if not self._ready.done():
            if fault is None:
                self._ready.set_result(None)
            else:
                self._ready.set_exception(fault)

    def _drain(self) -> None:
        topic, data = self._came.popleft()
        self._heard(topic, data)

    def _subscribed(self, number: int, fault: FedstillError | None) -> None:
        done = self._subscribing.pop(number, None)
        if done is not None and not done.done():
            if fault is None:
                done.set_result(None)
            else:
                done.set_exception(fault)

    def _confirmed(self, number: int, fault: FedstillError | None) -> None:
        confirm = self._confirming.pop(number, None)
        if confirm is not None:
            confirm(fault)

    def _end(self, fault: FedstillError) -> None:
        stood = self._ready.done() and not self._ready.cancelled() and self._ready.exception() is None
        self.fault = fault
        self._stands(fault)
        for number in tuple(self._subscribing):
            self._subscribed(number, fault)
        for number in tuple(self._confirming):
            self._confirmed(number, fault)
        if stood:
            self._ended(fault)

    # ---- in the thread

    def _made(self, name: str, context: ssl.SSLContext) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTv5, reconnect_on_failure=False)
        client.tls_set_context(context)
        client.max_inflight_messages = UNCONFIRMED
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_publish = lambda _, __, number, code, ___: self._tell(
            self._confirmed, number, self._meant(code, "a message")
        )
        client.on_subscribe = lambda _, __, number, codes, ___: self._tell(
            self._subscribed, number, next(filter(None, (self._meant(code, "hearing answers") for code in codes)), None)
        )
        client.on_disconnect = self._on_disconnect
        client.on_socket_open = _send_at_once
        client.on_socket_register_write = lambda *_: None  # or it would write in the thread of who publishes
        client.on_log = self._on_log
        return client

    def _drive(self) -> None:
        fault: FedstillError
        try:
            wanted = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            wanted.MaximumPacketSize = MAX_PACKET_BYTES
            wanted.SessionExpiryInterval = 0
            host, port = self._address.host, self._address.port
            self._client.connect(host, port, KEEP_ALIVE_S, clean_start=True, properties=wanted)
            self._pump()
            fault = self._broken()
        except Exception as error:  # whatever it is: nobody else sees it, and many may wait
            said = one_line(f"{error}" or type(error).__name__)
            fault = refusal(error, str(self._address)) or LinkDown(
                f"no connection, or it broke: {said}", where=str(self._address), remedy="Try again; check the network"
            )
        plug = self._client.socket()
        if plug is not None:
            plug.close()
        for end in (self._woken, self._waking):
            end.close()
        self._tell(self._end, fault)

    def _pump(self) -> None:
        client, plug = self._client, cast("ssl.SSLSocket", self._client.socket())
        clock, until = self._loop.time, float("inf")
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            selector.register(plug, selectors.EVENT_READ)
            code = MQTTErrorCode.MQTT_ERR_SUCCESS
            while code is MQTTErrorCode.MQTT_ERR_SUCCESS and client.socket() is plug and clock() < until:
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.want_write() else 0)
                selector.modify(plug, wanted)
                waiting_s = 0.0 if plug.pending() else 1.0
                ready = {key.fileobj: events for key, events in selector.select(waiting_s)}
                if self._woken in ready:
                    with suppress(BlockingIOError):
                        self._woken.recv(4096)
                if plug in ready or plug.pending():
                    code = client.loop_read()
                if code is MQTTErrorCode.MQTT_ERR_SUCCESS and ready.get(plug, 0) & selectors.EVENT_WRITE:
                    code = client.loop_write()
                if code is MQTTErrorCode.MQTT_ERR_SUCCESS:
                    code = client.loop_misc()
                if self._closing.is_set() and until == float("inf"):
                    until = clock() + 2.0  # to say goodbye

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
        self._tell(self._stands, fault)

    def _on_message(self, client: Client, data: Any, message: MQTTMessage) -> None:
        del client, data
        if len(self._came) < MAX_WAITING:
            with suppress(UnicodeDecodeError):
                self._came.append((message.topic, bytes(message.payload)))
                self._tell(self._drain)

    def _on_disconnect(self, client: Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        del client, data, properties
        if flags.is_disconnect_packet_from_server:
            self._said = f"the broker ended it: {code}"

    def _on_log(self, client: Client, data: Any, level: int, text: str) -> None:
        del client, data
        if level == 0x08:  # an error; paho keeps the exception to itself
            self._said = text

    def _broken(self) -> FedstillError:
        if self._closing.is_set():
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

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is gone, and with it all who wait
            self._loop.call_soon_threadsafe(function, *arguments)

    def _wake(self) -> None:
        with suppress(OSError):  # full: it is awake; closed: it has ended
            self._waking.send(b"\0")


def _send_at_once(client: Client, data: Any, plug: Any) -> None:
    """Else each small message waits some 40 ms for company (Nagle's algorithm and delayed confirmations)."""
    del client, data
    plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def one_line(text: str) -> str:
    """What another machine says, fit for a line of a log."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:500]).strip()
