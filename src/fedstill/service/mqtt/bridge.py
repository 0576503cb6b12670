"""The coordinator's side of MQTT: hears requests at a broker, and brings them to the same clerk as the HTTP interface.

What `transports.mqtt` asks is answered here: who asks is told by the seal of the request and by nothing else; every
request is answered by one message; what is asked twice is done once. No more than `MAX_BUSY_BYTES` of requests are in
memory: what comes beyond that is dropped, and is asked again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from fedstill.errors import ConfigError, FedstillError, LinkDown, LinkRefused, WireError
from fedstill.labels import Party
from fedstill.service.callers import recognise, told, too_often
from fedstill.service.clerk import Bell, Clerk
from fedstill.service.limits import Buckets, Limits
from fedstill.service.mqtt.office import Newcomers, Office
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.letters import digest_of
from fedstill.transports.mqtt.connection import Connection
from fedstill.transports.mqtt.frames import (
    MAX_TEXT,
    Address,
    Answer,
    Certified,
    Enrol,
    Envelope,
    Fetch,
    Gone,
    Later,
    Look,
    No,
    Piece,
    Reply,
    Request,
    Terms,
    Verdict,
    Working,
    pack,
    unpack,
)
from fedstill.transports.mqtt.window import Docket
from fedstill.transports.protocol import check_spoken
from fedstill.transports.tls import client_side

LOG = logging.getLogger(__name__)

OFF_S = 300.0
"""How far the time of a request may be off."""

ANSWER_S = 60.0
"""How long a broker may keep an answer."""

MAX_BUSY = 64
MAX_BUSY_BYTES = 64 * 2**20
"""Requests of one party, and bytes of all, that are worked on at the same time."""

_AGAIN = frozenset({409, 429, 500, 503, 507})
"""Answers after which the same request can have another answer."""

_BULK = (Terms, Fetch, Look, Piece)  # bounded by what is worked on, not by requests a second


class Bridge:
    """Answers what is asked at a broker.

    Parameters
    ----------
    clerk, bell, limits:
        Those of the app, whose event loop the bridge shares.
    address:
        Of the consortium: mqtts://host:port/consortium.
    certificate, key:
        Files (PEM) of the coordinator, in the role COORDINATOR: for the broker, and to sign answers.
    authority_pem:
        The certificate of the consortium's authority.
    newcomers:
        Who lets newcomers in; None: nobody can enrol this way.
    bundle:
        A file (PEM) of further authorities, for a broker whose certificate is of one of these.
    clock:
        Unix seconds.

    Attributes
    ----------
    connected:
        Set while requests can come.

    Raises
    ------
    ConfigError, WireError
        Where address or files cannot be used.
    """

    def __init__(
        self,
        clerk: Clerk,
        bell: Bell,
        limits: Limits,
        *,
        address: str,
        certificate: Path,
        key: Path,
        authority_pem: bytes,
        newcomers: Newcomers | None = None,
        bundle: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.connected = asyncio.Event()
        self._address = Address.parse(address)
        self._context = client_side(authority_pem, (certificate, key), bundle)
        self._identity = Identity.from_pem(key.read_bytes(), certificate.read_bytes())
        self._certificate = certificate.read_bytes()
        self._authority_pem = authority_pem
        self._clerk = clerk
        self._office = Office(clerk, bell, limits, newcomers)
        self._buckets = Buckets(limits.requests_per_s, limits.burst)
        self._newcomers = Buckets(limits.enrolments_per_minute / 60, limits.enrolments_per_minute)
        self._clock = clock
        self._docket = Docket(2 * OFF_S)
        self._busy_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._signers: dict[bytes, Certificate] = {}
        self._connection: Connection | None = None
        self._sitting = b""
        # Who has the same key ends the connection of who has it now; nobody else can guess this name.
        self._name = f"fedstill-{digest_of(self._identity.sign(b'fedstill mqtt name'))[:32]}"

    async def run(self, first_s: float = 0.5, most_s: float = 30.0) -> None:
        """Answer until cancelled; connects again after `first_s` seconds, twice as long each time up to `most_s`."""
        pause_s = first_s
        while True:
            ended: asyncio.Future[FedstillError] = asyncio.get_running_loop().create_future()
            try:
                await self._connect(ended)
                pause_s = first_s
                fault = await ended
            except FedstillError as error:
                fault = error
            finally:
                await self._leave()
            LOG.warning("no connection to the broker", extra={"why": str(fault), "again_s": pause_s})
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause_s = min(2 * pause_s, most_s)

    async def _connect(self, ended: asyncio.Future[FedstillError]) -> None:
        self._sitting = secrets.token_bytes(16)
        topics = self._address.topics

        def end(fault: FedstillError) -> None:
            if not ended.done():
                ended.set_result(fault)

        self._connection = await Connection.open(
            self._address,
            self._context,
            self._name,
            heard=self._heard,
            ended=end,
            will=(topics.gone, self._packed(bytes(16), "", Gone())),
        )
        await self._connection.subscribe(topics.up("+"), topics.new_up("+"))
        self.connected.set()
        LOG.info("connected to the broker", extra={"broker": str(self._address)})

    async def _leave(self) -> None:
        self.connected.clear()
        for task in self._tasks:
            task.cancel()
        if self._connection is not None:
            self._publish(self._address.topics.gone, self._packed(bytes(16), "", Gone()))
            await self._connection.close()
            self._connection = None

    # ---- what comes

    def _heard(self, topic: str, data: bytes) -> None:
        """A message. Nothing is said to who is not known."""
        topics = self._address.topics
        try:
            envelope = unpack(data, Request)
            name = envelope.message.sender
            newcomer = topic == topics.new_up(name)
            if not newcomer and topic != topics.up(name):
                raise WireError("it came on the topic of another party")
            if not isinstance(envelope.message.body, Later) and newcomer != isinstance(envelope.message.body, Enrol):
                raise WireError("not for newcomers, or for them alone")
            signer = None if newcomer else self._signer(envelope, name)
        except (WireError, ConfigError) as error:
            LOG.debug("a message is not used", extra={"topic": repr(topic[:200]), "why": str(error)})
            return
        self._admit(envelope, signer, topics.new_down(name) if newcomer else topics.down(name), len(data))

    def _signer(self, envelope: Envelope[Request], name: Party) -> Certificate:
        """Whose request it is. Raises WireError where that is not shown."""
        signer = self._signers.get(envelope.certificate)
        if signer is None:
            signer = Certificate.from_pem(envelope.certificate)
            if not signer.issued_by(self._authority_pem):
                raise WireError("its certificate is of another authority")
            if len(self._signers) >= 10_000:
                self._signers.clear()
            self._signers[envelope.certificate] = signer
        if signer.name != name or not signer.verify(envelope.sealed, envelope.seal):
            raise WireError("its seal does not fit its sender")
        return signer

    def _admit(self, envelope: Envelope[Request], signer: Certificate | None, back: str, size: int) -> None:
        request = envelope.message
        key = "" if signer is None else request.sender, request.id
        known = self._docket.look(*key)
        if known is not None:
            self._publish(back, known.answer or self._packed(request.id, request.sender, Working()))
            return
        refusal = self._refusal(request, signer)
        if refusal is not None:
            self._publish(back, self._packed(request.id, request.sender, refusal))
            return
        if self._docket.under_way(key[0]) >= MAX_BUSY or self._busy_bytes + size > MAX_BUSY_BYTES:
            return  # it is asked again
        self._docket.begin(*key)
        self._busy_bytes += size
        task = asyncio.create_task(self._answer(envelope, signer, key, back, size))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refusal(self, request: Request, signer: Certificate | None) -> No | None:
        """What is wrong with a request that is its sender's; None where it can be carried out."""
        off_s, now = request.at - self._clock(), datetime.fromtimestamp(self._clock(), UTC)
        if abs(off_s) > OFF_S:
            return No(f"the time of the request is {off_s:+.0f} s off", "Set the clock", again=False)
        if signer is not None and not signer.valid(now):
            return No("the certificate has ended", "Enrol again with a new invitation", again=False)
        wait_s = 0.0
        if signer is None:
            wait_s = self._newcomers.take("", asyncio.get_running_loop().time())
        elif not isinstance(request.body, _BULK):
            wait_s = self._buckets.take(signer.name, asyncio.get_running_loop().time())
        if wait_s:
            return _told(too_often(wait_s))
        try:
            check_spoken(participant=request.protocol)
            if isinstance(request.body, Later):
                raise LinkRefused("this is no question here", remedy="Ask the operator to upgrade fedstill")
        except LinkRefused as fault:
            return _told(fault)
        return None

    async def _answer(
        self, envelope: Envelope[Request], signer: Certificate | None, key: tuple[str, bytes], back: str, size: int
    ) -> None:
        request, kept = envelope.message, None
        try:
            try:
                if signer is None:
                    reply: Reply = await self._office.enrol(envelope)
                else:
                    caller = await recognise(self._clerk, signer.fingerprint)
                    await self._clerk.seen(caller.name)
                    reply = await self._office.carry_out(caller, request.body)
            except Exception as fault:
                reply = _told(fault)
            answer = self._packed(request.id, request.sender, reply)
            if isinstance(reply, Verdict | Certified):
                kept = answer
            self._publish(back, answer)
        finally:
            self._busy_bytes -= size
            self._docket.end(*key, asyncio.get_running_loop().time(), kept)

    # ---- what goes

    def _packed(self, number: bytes, to: Party, reply: Reply) -> bytes:
        answer = Answer(number, to, self._sitting, self._clock(), reply)
        return pack(answer, self._certificate, self._identity.sign)

    def _publish(self, topic: str, packed: bytes) -> None:
        if self._connection is not None:
            with suppress(LinkDown):  # it is asked again
                self._connection.publish(topic, packed, ANSWER_S, _confirm)


def _told(fault: Exception) -> No:
    """What is said about a fault to whoever asked."""
    refused = told(fault)
    return No(refused.error[:MAX_TEXT], refused.remedy[:MAX_TEXT], refused.status in _AGAIN)


def _confirm(fault: FedstillError | None) -> None:
    if isinstance(fault, LinkRefused):
        LOG.error("the broker does not take answers", extra={"why": str(fault)})
