"""A server with its desk in memory, and requests to it over TLS on this machine."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import contextmanager
from typing import NamedTuple

from fedstill.service.clerk import Bell
from fedstill.service.http.api import create_app
from fedstill.service.http.server import Server
from fedstill.service.limits import Limits
from fedstill.service.store.blobs import Blobs
from fedstill.testing.coordinator import MemoryDesk
from fedstill.transports.letters import COORDINATOR, Parcel, pack_parcels
from fedstill.transports.roles import Role
from fedstill.transports.tls import client_side


class SeenBlobs(Blobs):
    """Tells when something was added, and how large the largest piece was."""

    def __init__(self, folder, max_bytes):
        super().__init__(folder, max_bytes)
        self.added, self.largest = threading.Semaphore(0), 0

    def append(self, digest, offset, data):
        super().append(digest, offset, data)
        self.largest = max(self.largest, len(data))
        self.added.release()


class Said(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class House:
    """A server with its desk, and requests to it."""

    def __init__(self, consortium, desk, bell, server, now):
        self.consortium, self.desk, self.bell, self.server, self.now = consortium, desk, bell, server, now

    def connection(self, papers=None, timeout=20):
        pair = papers and (papers.certificate, papers.key)
        context = client_side(self.consortium.authority.cert_pem, pair)
        return http.client.HTTPSConnection("127.0.0.1", self.server.port, context=context, timeout=timeout)

    def raw(self, papers=None):
        """A TLS socket."""
        connection = self.connection(papers)
        connection.connect()
        return connection.sock

    def ask(self, papers, method, path, body=None, **headers):
        connection = self.connection(papers)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return Said(response.status, response.headers, response.read())
        finally:
            connection.close()

    def post(self, papers, number, payload, inline=True):
        letter = self.desk.letter("ann", COORDINATOR, number, payload, papers.identity)
        return self.ask(papers, "POST", "/v1/letters", pack_parcels([Parcel(letter, payload if inline else None)]))

    def offset(self, papers, digest):
        said = self.ask(papers, "HEAD", f"/v1/payloads/{digest}")
        return int(said.headers["Upload-Offset"]), said.headers["Upload-Complete"]


@contextmanager
def opened(consortium, folder, limits=None, max_bytes=10**7, wrap=lambda app: app, administration=None):
    """A house; its clock for limits moves only by hand."""
    bell, now = Bell(), [0.0]
    desk = MemoryDesk(consortium, SeenBlobs(folder, max_bytes), bell.announce)
    limits = limits or Limits(burst=1000, enrolments_per_minute=1000)
    app = wrap(create_app(desk, bell=bell, administration=administration, limits=limits, clock=lambda: now[0]))
    papers = consortium.papers(COORDINATOR, Role.SERVER)
    server = Server(
        app,
        bell,
        host="127.0.0.1",
        port=0,
        certificate=papers.certificate,
        key=papers.key,
        authority_pem=consortium.authority.cert_pem,
        limits=limits,
    )
    with server:
        yield House(consortium, desk, bell, server, now)
        desk.free.set()  # or the desk's thread would never end
