"""Asks a coordinator over MQTT: one connection to a broker at a time, requests under way, answers that fit."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from fedstill.errors import ConfigError, FedstillError, LinkDown, LinkRefused, WireError
from fedstill.labels import Party
from fedstill.transports.certificates import Certificate
from fedstill.transports.mqtt.connection import Connection, one_line
from fedstill.transports.mqtt.frames import (
    Address,
    Answer,
    Gone,
    No,
    Question,
    Reply,
    Request,
    Seal,
    Working,
    pack,
    unpack,
)
from fedstill.transports.mqtt.window import Timing, Window
from fedstill.transports.protocol import SPOKEN
from fedstill.transports.roles import Role
from fedstill.transports.transfers import Persistence

T = TypeVar("T", bound=Reply)


@dataclass(frozen=True)
class Patience(Persistence):
    """How long to wait over MQTT.

    Attributes
    ----------
    answer_s:
        For an answer, however often the coordinator says that it works on it; a request for letters may take as much
        longer as it is to wait.
    timing:
        When to ask again, and how long a silence may be.
    """

    answer_s: float = 300.0
    timing: Timing = field(default_factory=Timing)


@dataclass(frozen=True)
class Speaker:
    """Who asks, where, and how it proves that."""

    name: Party
    up: str
    down: tuple[str, ...]
    certificate: bytes
    seal: Seal
    own: Certificate | None = None

    @property
    def client(self) -> str:
        """What the broker knows it by: another name for each link, or two of one party would end each other."""
        return f"fedstill-{secrets.token_hex(8)}" if self.own else self.name


@dataclass
class _Awaited:
    """A request as it was sent, and who waits for its answer."""

    sent: bytes
    answer: asyncio.Future[Reply]


class Line:
    """Asks the coordinator, over one connection at a time; whatever goes wrong comes as errors of ours.

    Attributes
    ----------
    closed:
        Whether it is of no use any more.
    told_at:
        The coordinator's time at its last answer, in Unix seconds.
    """

    def __init__(
        self,
        where: Address,
        context: ssl.SSLContext,
        speaker: Speaker,
        authority_pem: bytes,
        patience: Patience,
        clock: Callable[[], float],
    ) -> None:
        self.closed = False
        self._where = where
        self._context = context
        self._speaker = speaker
        self._authority_pem = authority_pem
        self._patience = patience
        self._clock = clock
        self._connection: Connection | None = None
        self._opening, self._turn, self._space = asyncio.Lock(), asyncio.Lock(), asyncio.Event()
        self._window = Window(patience.timing)
        self._awaited: dict[bytes, _Awaited] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sitting, self.told_at = b"", 0.0
        self._coordinators: dict[bytes, Certificate] = {}

    async def ask(self, body: Question, kind: type[T], longer_s: float = 0.0) -> T:
        """Ask, and return an answer of this kind."""
        try:
            async with (
                asyncio.timeout(self._patience.answer_s + longer_s),
                self._sent(body, timed=not longer_s) as sent,
            ):
                reply = await sent.answer
        except TimeoutError:
            raise LinkDown("no answer in time", where="coordinator", remedy="Try again later") from None
        if isinstance(reply, No):
            fault = LinkDown if reply.again else LinkRefused
            raise fault(one_line(reply.error), where="coordinator", remedy=one_line(reply.remedy))
        if not isinstance(reply, kind):
            raise WireError(f"the coordinator answers with '{type(reply).__name__}'")
        return reply

    async def close(self) -> None:
        """End the connection; who waits gets a LinkDown."""
        self.closed = True
        self._fail(LinkDown("this link is closed", where=str(self._where)))
        if self._connection is not None:
            await self._connection.close()

    @asynccontextmanager
    async def _sent(self, body: Question, *, timed: bool) -> AsyncIterator[_Awaited]:
        """Send a request when its turn comes; nobody waits for it any more when the block ends."""
        number = secrets.token_bytes(16)
        async with self._turn:
            connection = await self._connected()
            while not self._window.room:
                self._space.clear()
                await self._space.wait()
                connection = await self._connected()
            request = Request(number, self._speaker.name, self._clock(), body, SPOKEN)
            awaited = _Awaited(
                pack(request, self._speaker.certificate, self._speaker.seal),
                asyncio.get_running_loop().create_future(),
            )
            self._awaited[number] = awaited
            self._window.ask(number, _now(), timed=timed)
            self._publish(connection, number)
        try:
            yield awaited
        finally:
            self._forget(number)

    async def _connected(self) -> Connection:
        async with self._opening:
            if self.closed:
                raise LinkDown("this link is closed", where=str(self._where))
            if self._connection is None or self._connection.fault is not None:
                try:
                    self._connection = await self._opened()
                except (LinkDown, LinkRefused) as fault:
                    raise _explained(fault, self._speaker.own, self._clock()) from None
            return self._connection

    async def _opened(self) -> Connection:
        connection = await Connection.open(
            self._where,
            self._context,
            self._speaker.client,
            heard=self._heard,
            ended=self._fail,
            connect_s=self._patience.connect_s,
        )
        try:
            await connection.subscribe(*self._speaker.down)
        except BaseException:
            await connection.close()
            raise
        return connection

    def _publish(self, connection: Connection, number: bytes) -> None:
        def confirm(fault: FedstillError | None) -> None:
            if fault is None:
                self._window.taken(number, _now())
                self._set_timer()
            else:
                self._give(number, fault)

        try:
            connection.publish(self._speaker.up, self._awaited[number].sent, self._patience.timing.silence_s, confirm)
        except LinkDown as fault:
            self._give(number, fault)
        self._set_timer()

    def _heard(self, topic: str, data: bytes) -> None:
        del topic  # proves nothing
        try:
            envelope = unpack(data, Answer)
            signer = self._coordinator(envelope.certificate)
        except (WireError, ConfigError):
            return  # whoever else may write here
        answer = envelope.message
        if not signer.verify(envelope.sealed, envelope.seal):
            return
        if isinstance(answer.body, Gone):
            if answer.sitting == self._sitting:  # another one is old news, said again by somebody
                self._fail(LinkDown("the coordinator has left", where="coordinator", remedy="Try again"))
            return
        done = not isinstance(answer.body, Working)
        if answer.to == self._speaker.name and self._window.heard(answer.id, _now(), done=done):
            self._sitting, self.told_at = answer.sitting, answer.at
            if done:
                self._give(answer.id, answer.body)
            self._space.set()
            self._set_timer()

    def _coordinator(self, pem: bytes) -> Certificate:
        """Whose certificate it is. Raises WireError where it is none of a coordinator of this consortium."""
        known = self._coordinators.get(pem)
        if known is None:
            known = Certificate.from_pem(pem)
            if known.role is not Role.COORDINATOR or not known.issued_by(self._authority_pem):
                raise WireError("it is not signed by a coordinator")
            self._coordinators = {pem: known}
        if not known.valid(datetime.fromtimestamp(self._clock(), UTC)):
            raise WireError("the coordinator's certificate has ended")
        return known

    def _give(self, number: bytes, answer: Reply | FedstillError) -> None:
        awaited = self._awaited.pop(number, None)
        self._window.drop(number)
        if awaited is not None and not awaited.answer.done():
            if isinstance(answer, FedstillError):
                awaited.answer.set_exception(answer)
            else:
                awaited.answer.set_result(answer)
        self._space.set()

    def _forget(self, number: bytes) -> None:
        awaited = self._awaited.pop(number, None)
        if awaited is not None:
            awaited.answer.cancel()
        self._window.drop(number)
        self._space.set()
        self._set_timer()

    def _fail(self, fault: FedstillError) -> None:
        for number in tuple(self._awaited):
            self._give(number, fault)
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at = self._window.wake_at()
        self._timer = None if at is None else asyncio.get_running_loop().call_at(at, self._look_after)

    def _look_after(self) -> None:
        try:
            late = self._window.due(_now())
        except LinkDown as fault:
            self._fail(fault)
            return
        for number in late:
            if self._connection is not None:
                self._publish(self._connection, number)
        self._set_timer()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _explained(fault: FedstillError, own: Certificate | None, now: float) -> FedstillError:
    """The same, or what is behind it: brokers may end a connection without a word where a certificate has ended."""
    if own is None or own.valid(datetime.fromtimestamp(now, UTC)):
        return fault
    return LinkRefused(
        f"the certificate of '{own.name}' is valid from {own.starts} to {own.ends}, and not now",
        where=fault.where,
        remedy="Enrol again with a new invitation, or set the clock",
    )
