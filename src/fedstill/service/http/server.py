"""The app on a port: uvicorn with TLS, where members show certificates of the consortium's authority.

TLS is 1.2 or newer. A client certificate may be missing, for newcomers; one that is shown must be made by the authority
and be valid, or there is no connection. What uvicorn leaves open is bounded here: connections, those of strangers, and
the size and time of a request's headers.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import socket
import ssl
import threading
from asyncio.sslproto import SSLProtocol
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fedstill.errors import ConfigError
from fedstill.service.clerk import Bell
from fedstill.service.http.gate import PEER, App
from fedstill.service.limits import Limits
from fedstill.transports.tls import server_side

READ_BYTES = 32 * 1024
"""What is read from a connection at once. asyncio reserves 256 kB for every TLS connection, and takes no parameter."""

MAX_HEAD_BYTES = 64 * 1024
"""Of the headers of a request."""

KEEP_ALIVE_S = 75
"""How long a connection without requests is kept; longer than clients keep theirs, so that they end it."""

log = logging.getLogger(__name__)


class Server:
    """A coordinator's server.

    Parameters
    ----------
    app:
        From `api.create_app`.
    bell:
        The app's: at the end, whoever waits for letters is let go.
    host, port:
        Where to listen; an IP address or a name of this machine, and 0 for a free port.
    certificate, key:
        Files (PEM) of an identity in the role SERVER.
    authority_pem:
        The certificate of the consortium's authority.
    limits:
        Those of the app.
    stop_s:
        How long requests have to end when the server stops.

    Raises
    ------
    ConfigError
        Where files cannot be used.
    """

    def __init__(
        self,
        app: App,
        bell: Bell,
        *,
        host: str,
        port: int,
        certificate: Path,
        key: Path,
        authority_pem: bytes,
        limits: Limits | None = None,
        stop_s: int = 10,
    ) -> None:
        self.host = host
        self.port = port
        config = uvicorn.Config(
            app,
            http=functools.partial(_Connection, limits=limits or Limits()),  # type: ignore[arg-type]
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # whoever connects is who asks, whatever it writes into headers
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=stop_s,
        )
        config.load()
        config.ssl = server_side(certificate, key, authority_pem)
        SSLProtocol.max_size = READ_BYTES
        self._uvicorn = _Uvicorn(config, bell)
        self._thread: threading.Thread | None = None

    async def serve(self) -> None:
        """Serve until `stop`. Signals are the caller's to handle. Raises ConfigError where the port cannot be had."""
        listener = _listener(self.host, self.port)
        self.port = listener.getsockname()[1]
        await self._uvicorn.serve(sockets=[listener])

    def start(self) -> Self:
        """Serve in a thread of its own; returns when connections are taken. Raises ConfigError as `serve` does."""
        faults: list[BaseException] = []

        def work() -> None:
            try:
                asyncio.run(self.serve())
            except (Exception, SystemExit) as fault:  # uvicorn exits where an app does not start
                faults.append(fault)
            finally:
                self._uvicorn.settled.set()

        self._thread = threading.Thread(target=work, name="server", daemon=True)
        self._thread.start()
        self._uvicorn.settled.wait()
        if faults:
            raise faults[0]
        return self

    def stop(self) -> None:
        """Take no more connections, let requests end, and stop. May be called from any thread, and twice."""
        self._uvicorn.should_exit = True
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _listener(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen: {error}",
            where=f"{host}:{port}",
            remedy="Choose an address of this machine and a free port",
        ) from None
    # asyncio sends small packets at once where a socket says that it is of TCP, and this one does not.
    return socket.socket(listener.family, listener.type, socket.IPPROTO_TCP, listener.detach())


class _Uvicorn(uvicorn.Server):
    """Says when it is ready, lets polls go before it waits for them, and leaves signals alone."""

    def __init__(self, config: uvicorn.Config, bell: Bell) -> None:
        super().__init__(config)
        self.settled = threading.Event()
        self._bell = bell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.settled.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._bell.close()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise a signal again at the end, before who runs the server has put things in order.
        yield


class _Connection(HttpToolsProtocol):
    """Puts the client's certificate into the scope, and closes connections that are too many or too slow."""

    def __init__(self, *arguments: Any, limits: Limits, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.peer: dict[object, object] | None = None
        self._limits = limits
        self._head_bytes = 0
        self._in_head = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.peer = _peer(transport)
        if self._too_many():
            log.warning("too many connections", extra={"client": self.client})
            transport.abort()
        else:
            self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self.peer is not None:
            self.scope["extensions"] = {PEER: dict(self.peer)}

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES and self._in_head:
            self.transport.abort()
        elif self._in_head or self.cycle is None or self.cycle.response_complete:
            self._arm()
        else:
            self._disarm()

    def shutdown(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not self.transport.get_write_buffer_size():
            self.transport.abort()  # to take leave of a client that does not listen would take half a minute
        else:
            super().shutdown()

    def _too_many(self) -> bool:
        strangers = 0
        if self.peer is None:
            strangers = sum(getattr(other, "peer", None) is None for other in self.connections)
        return len(self.connections) > self._limits.connections or strangers > self._limits.strangers

    def _arm(self) -> None:
        """Give up unless the headers of a next request are there in time.

        Meanwhile what is left of a body that was refused is thrown away: who sends it shall be able to read why.
        """
        if self._timer is None:
            self._timer = self.loop.call_later(self._limits.head_s, self.transport.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _peer(transport: asyncio.Transport) -> dict[object, object] | None:
    """What the app has to know of the certificate that the client has shown, if any."""
    session = transport.get_extra_info("ssl_object")
    der = session and session.getpeercert(binary_form=True)
    if not der:
        return None
    ends = ssl.cert_time_to_seconds(session.getpeercert()["notAfter"])
    return {"fingerprint": hashlib.sha256(der).hexdigest(), "ends": ends}
