"""The HTTP interface as a client sees it, over TLS on this machine with certificates of a consortium."""

from __future__ import annotations

import base64
import errno
import http.client
import json
import os
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from houses import opened

from fedstill.errors import ConfigError, LinkRefused, RunError, WireError
from fedstill.service.http import members
from fedstill.service.http.api import create_app
from fedstill.service.http.server import Server
from fedstill.service.http.transfer import PIECE_BYTES
from fedstill.service.limits import Limits
from fedstill.testing.coordinator import TERMS, Consortium
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.letters import COORDINATOR, Parcel, digest_of, pack_parcels, unpack_parcels
from fedstill.transports.protocol import SPOKEN
from fedstill.transports.roles import Role
from fedstill.transports.tls import client_side

OPEN = {("get", "/health"), ("get", "/ready"), ("post", "/v1/enrol")}
BROKEN = (OSError, http.client.HTTPException)
"""How a connection ends that the other side does not want."""


@pytest.fixture(scope="module")
def consortium(tmp_path_factory):
    return Consortium(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def shared(consortium, tmp_path_factory):
    with opened(consortium, tmp_path_factory.mktemp("blobs")) as house:
        yield house


@pytest.fixture
def house(shared):
    """The shared house with a desk at peace, when nobody is remembered."""
    shared.desk.fault = None
    shared.now[0] += 1000
    return shared


@pytest.fixture
def ann(house):
    return house.desk.join("ann")


@contextmanager
def strict(consortium, tmp_path, **limits):
    with opened(consortium, tmp_path, Limits(**limits)) as house:
        yield house, house.desk.join("ann")


def routes(house, papers):
    paths = house.ask(papers, "GET", "/v1/openapi.json").json["paths"]
    return {(method, path) for path, methods in paths.items() for method in methods}


# Who may come in.


def test_the_openapi_document_names_every_route(house, ann):
    payload = "/v1/payloads/{digest}"
    assert routes(house, ann) == OPEN | {
        *(("get", f"/v1/{name}") for name in ("terms", "status", "letters")),
        *(("post", "/v1/renew"), ("post", "/v1/letters"), ("get", "/metrics"), ("get", "/v1/audit")),
        *(("post", "/v1/invitations"), ("post", "/v1/revocations")),
        *((method, payload) for method in ("head", "patch", "get")),
    }
    document = house.ask(ann, "GET", "/v1/openapi.json").json
    asked = document["paths"]["/v1/enrol"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert sorted(asked["properties"]) == ["request", "token"]


def test_strangers_are_let_in_nowhere_else(house, ann):
    for method, path in sorted(routes(house, ann) | {("get", "/v1/openapi.json"), ("get", "/nowhere")}):
        said = house.ask(None, method.upper(), path.format(digest="0" * 64))
        assert (said.status == 401) == ((method, path) not in OPEN), (method, path, said)
    assert said.status != 401 or said.json["remedy"].startswith("Enrol")


def test_who_never_joined_or_was_revoked_is_refused(house, ann):
    said = house.ask(house.consortium.papers("eve"), "GET", "/v1/terms")
    assert said.status == 403
    assert "nobody who has joined" in said.json["error"]
    assert house.ask(ann, "GET", "/v1/terms").body == TERMS
    del house.desk.members[ann.fingerprint]
    house.now[0] += 2.1  # as long as the answer holds
    assert house.ask(ann, "GET", "/v1/terms").status == 403


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_refuses_foreign_and_ended_certificates(house, version, tmp_path):
    foreign = Consortium(tmp_path, "foreign").papers("ann")
    wrong_use = house.consortium.papers("other", Role.SERVER)
    for papers in (foreign, house.consortium.papers("ann", days=10), wrong_use):
        connection = house.connection(papers)
        connection._context.maximum_version = version
        with pytest.raises(BROKEN):
            answer_of(connection)
        connection.close()


def answer_of(connection):
    connection.request("GET", "/health")
    return connection.getresponse()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
def test_tls_below_1_2_is_refused(house):
    for version, fine in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
        context = client_side(house.consortium.authority.cert_pem)
        context.set_ciphers("DEFAULT@SECLEVEL=0")  # so that this side would go along
        context.minimum_version = context.maximum_version = version
        try:
            with (
                socket.create_connection(("127.0.0.1", house.server.port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
            ):
                assert fine
                assert tls.version() == "TLSv1.2"
        except BROKEN:
            assert not fine


def test_a_certificate_that_ends_while_the_connection_is_open(house, ann, monkeypatch):
    connection = house.connection(ann)
    connection.request("GET", "/v1/terms")
    assert connection.getresponse().read() == TERMS
    gate = gate_of(house)
    monkeypatch.setattr(gate, "_now", lambda: Certificate.from_pem(ann.certificate.read_bytes()).ends.timestamp() + 1)
    connection.request("GET", "/v1/terms")
    response = connection.getresponse()
    assert response.status == 401
    assert "has ended" in json.loads(response.read())["error"]
    connection.close()


def gate_of(house):
    stack = house.server._uvicorn.config.app.middleware_stack
    while type(stack).__name__ != "Gate":
        stack = stack.app
    return stack


# Joining.


def test_enrolling_and_renewing(house):
    house.desk.tokens["secret"] = ("bob", Role.PARTICIPANT)
    bob = Identity.create()
    request = json.dumps({"token": "secret", "request": bob.request_pem("bob").decode()})
    said = house.ask(None, "POST", "/v1/enrol", request)
    assert said.status == 200
    assert said.json["authority"].encode() == house.consortium.authority.cert_pem
    certificate = Certificate.from_pem(said.json["certificate"].encode())
    assert (certificate.name, certificate.role) == ("bob", Role.PARTICIPANT)
    again = house.ask(None, "POST", "/v1/enrol", request)
    assert (again.status, again.json["error"]) == (403, "no such invitation")

    papers = house.desk.join("bob")
    renewed = house.ask(papers, "POST", "/v1/renew", json.dumps({"request": papers.identity.request_pem("x").decode()}))
    assert Certificate.from_pem(renewed.json["certificate"].encode()).name == "bob"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 422),
        (b"[]", 422),
        (b"\xff", 422),
        (b'{"token": 3, "request": ""}', 422),
        (b'{"token": "t"}', 422),
        (b'{"token": "t", "request": "", "role": "operator"}', 422),
        (b'{"token": "secret", "request": "no pem"}', 422),
        (b"[" * 30_000, 422),
        (b" " * 40_000, 413),
    ],
)
def test_what_is_no_enrolment(house, body, status):
    house.desk.tokens["secret"] = ("bob", Role.PARTICIPANT)
    said = house.ask(None, "POST", "/v1/enrol", body)
    assert said.status == status
    assert set(said.json) == {"error", "remedy"}


# Letters.


def test_a_letter_is_taken_or_told_why_not(house, ann):
    assert house.post(ann, 1, b"payload").json == {"why": ""}
    assert house.desk.batches[-1][0][0] == "ann"
    letter = house.desk.letter("ann", COORDINATOR, 2, b"one", ann.identity)
    said = house.ask(ann, "POST", "/v1/letters", pack_parcels([Parcel(letter, b"two")]))
    assert (said.status, "SHA-256" in said.json["why"]) == (200, True)


def test_what_is_no_letter(house, ann):
    letter = house.desk.letter("ann", COORDINATOR, 1, b"far", ann.identity)
    for body, status in [
        (b"", 422),
        (b"FSp1\xff", 422),
        (pack_parcels([]), 422),
        (pack_parcels([Parcel(letter, b"far")] * 2), 422),
        (pack_parcels([Parcel(b"no letter", None)]), 422),
        (pack_parcels([Parcel(letter, None)]), 409),
        (bytes(Limits().max_letter_bytes + 1), 413),
    ]:
        said = house.ask(ann, "POST", "/v1/letters", body)
        assert said.status == status, body[:40]
        assert said.json["error"]


def test_letters_come_in_order_after_a_number(house):
    papers = house.desk.join("reader")
    house.desk.send("reader", b"1", b"2" * 70_000, b"3")
    parcels = unpack_parcels(house.ask(papers, "GET", "/v1/letters").body, 10**6)
    assert [parcel.payload for parcel in parcels] == [b"1", None, b"3"]
    parcels = unpack_parcels(house.ask(papers, "GET", "/v1/letters?after=2&wait_s=60").body, 10**6)
    assert [parcel.payload for parcel in parcels] == [b"3"]


def polls(house, papers, n, wait_s=60):
    """Polls that wait, each in a thread: they have looked for letters once, and heard the bell before."""
    pool = ThreadPoolExecutor(n)
    asked = [pool.submit(house.ask, papers, "GET", f"/v1/letters?wait_s={wait_s}") for _ in range(n)]
    for _ in asked:
        assert house.desk.asked.acquire(timeout=10)
    pool.shutdown(wait=False)
    return asked


@pytest.fixture
def poller(house):
    while house.desk.asked.acquire(blocking=False):
        pass
    name = f"poller {house.now[0]}"
    return name, house.desk.join(name)


def test_a_poll_wakes_when_letters_are_announced(house, poller):
    name, papers = poller
    waiting = polls(house, papers, 3)
    house.bell.announce([name, "nobody"])  # a false alarm
    for _ in waiting:
        assert house.desk.asked.acquire(timeout=10)
    assert not any(one.done() for one in waiting)
    house.desk.send(name, b"news")
    for one in waiting:
        (parcel,) = unpack_parcels(one.result(timeout=10).body, 1000)
        assert parcel.payload == b"news"


def test_a_poll_ends_when_its_time_is_over(house, poller):
    (one,) = polls(house, poller[1], 1, wait_s=0.05)
    assert unpack_parcels(one.result(timeout=10).body, 1000) == []


def test_one_poll_too_many_ends_the_oldest(house, poller):
    name, papers = poller
    oldest = polls(house, papers, 1)
    others = polls(house, papers, 4)
    assert unpack_parcels(oldest[0].result(timeout=10).body, 1000) == []
    house.desk.send(name, b"news")
    assert all(len(one.result(timeout=10).body) > 100 for one in others)


def test_who_is_revoked_while_it_waits_gets_nothing(house, poller):
    name, papers = poller
    (one,) = polls(house, papers, 1)
    del house.desk.members[papers.fingerprint]
    house.now[0] += 3
    house.desk.send(name, b"news")
    assert one.result(timeout=10).status == 403


def test_a_poll_ends_when_nobody_waits_for_it_any_more(house, poller):
    _, papers = poller
    tls = house.raw(papers)
    tls.sendall(b"GET /v1/letters?wait_s=60 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert house.desk.asked.acquire(timeout=10)
    tls.close()
    assert house.desk.asked.acquire(timeout=10)  # it looks once more, and has gone


@pytest.mark.parametrize("query", ["after=-1", "after=x", "wait_s=61", "wait_s=-1", "wait_s=nan", "wait_s=inf"])
def test_what_cannot_be_asked_of_letters(house, ann, query):
    said = house.ask(ann, "GET", f"/v1/letters?{query}")
    assert said.status == 422
    assert said.json["error"].startswith(f"query.{query.partition('=')[0]}: ")


def test_many_posts_share_few_transactions(consortium, tmp_path):
    n, begun = 40, threading.Semaphore(0)

    def wrap(app):
        async def counted(scope, receive, send):
            begun.release()
            await app(scope, receive, send)

        return counted

    with opened(consortium, tmp_path, wrap=wrap) as house, ThreadPoolExecutor(n) as pool:
        ann = house.desk.join("ann")
        assert begun.acquire(timeout=10)  # the app has started
        house.desk.free.clear()
        posted = [pool.submit(house.post, ann, i + 1, b"payload") for i in range(n)]
        for _ in posted:
            assert begun.acquire(timeout=20)
        house.desk.free.set()
        assert [one.result(timeout=20).json["why"] for one in posted] == [""] * n
    assert sum(map(len, house.desk.batches)) == n
    assert len(house.desk.batches) <= n / 4
    assert house.desk.threads == {"desk_0"}


# Payloads.


def patch(house, papers, digest, body, offset=0, complete="?1"):
    headers = {"Upload-Offset": str(offset), "Upload-Complete": complete}
    return house.ask(papers, "PATCH", f"/v1/payloads/{digest}", body, **headers)


def test_a_payload_in_pieces(house, ann):
    payload = os.urandom(1_000_000)
    digest = digest_of(payload)
    assert house.offset(ann, digest) == (0, "?0")
    first = patch(house, ann, digest, payload[:400_000], complete="?0")
    assert (first.status, first.headers["Upload-Offset"]) == (204, "400000")
    wrong = patch(house, ann, digest, payload[300_000:], offset=300_000)
    assert (wrong.status, wrong.headers["Upload-Offset"]) == (409, "400000")
    assert patch(house, ann, digest, payload[400_000:], offset=400_000).status == 204
    assert house.offset(ann, digest) == (1_000_000, "?1")
    assert house.desk.blobs.get(digest) == payload
    assert patch(house, ann, digest, b"", offset=1_000_000).status == 409  # it is whole
    assert house.post(ann, 9, payload, inline=False).json == {"why": ""}
    assert house.desk.blobs.largest < 4 * PIECE_BYTES


def test_a_letter_may_come_with_the_last_piece_of_its_payload(house, ann):
    payload = os.urandom(600_000)
    digest, path = digest_of(payload), f"/v1/payloads/{digest_of(payload)}"
    before = list(house.desk.batches)
    letter = base64.b64encode(house.desk.letter("ann", COORDINATOR, 1, payload, ann.identity)).decode()
    other = base64.b64encode(house.desk.letter("ann", COORDINATOR, 1, b"other", ann.identity)).decode()
    for wrong, error in (("?", "base64"), (other, "another payload"), ("QUJD", "not a letter"), ("A" * 9000, "8192")):
        said = house.ask(ann, "PATCH", path, payload, Upload_Offset="0", Upload_Complete="?1", Letter=wrong)
        assert said.status == 422
        assert error in said.json["error"]
    assert house.offset(ann, digest) == (0, "?0")
    first, last = payload[:500_000], payload[500_000:]
    said = house.ask(ann, "PATCH", path, first, Upload_Offset="0", Upload_Complete="?0", Letter=letter)
    assert (said.status, house.desk.batches) == (204, before)
    said = house.ask(ann, "PATCH", path, last, Upload_Offset="500000", Upload_Complete="?1", Letter=letter)
    assert (said.status, said.json) == (200, {"why": ""})
    assert house.desk.batches == [*before, [("ann", base64.b64decode(letter), None)]]


def test_payloads_that_no_letter_names_have_a_bound(consortium, tmp_path):
    one, two = os.urandom(600_000), os.urandom(600_000)
    with strict(consortium, tmp_path, pending_bytes=1_000_000) as (house, ann):
        assert patch(house, ann, digest_of(one), one[:1000], complete="?0").status == 204
        assert patch(house, ann, digest_of(one), one[1000:], offset=1000).status == 204
        said = patch(house, ann, digest_of(two), two)
        assert (said.status, said.json["error"]) == (
            413,
            "you have uploaded 600000 bytes that no letter of yours has named",
        )
        assert house.post(ann, 9, one, inline=False).json == {"why": ""}
        assert patch(house, ann, digest_of(two), two).status == 204


def test_a_payload_with_another_digest_is_deleted(house, ann):
    digest = digest_of(b"what was promised")
    said = patch(house, ann, digest, b"what was sent")
    assert said.status == 422
    assert said.json["error"].startswith(f"{digest}: the payload has the digest")
    assert house.offset(ann, digest) == (0, "?0")


def test_what_came_before_a_cut_stays(house, ann):
    digest, piece = digest_of(b"x" * 10**6), b"x" * (PIECE_BYTES + 10)
    while house.desk.blobs.added.acquire(blocking=False):
        pass
    tls = house.raw(ann)
    head = f"PATCH /v1/payloads/{digest} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\nContent-Length: 1000000\r\n\r\n"
    tls.sendall(head.encode() + piece)
    assert house.desk.blobs.added.acquire(timeout=10)
    tls.close()
    offset, complete = house.offset(ann, digest)
    assert PIECE_BYTES <= offset <= len(piece)
    assert complete == "?0"


@pytest.mark.parametrize("how", ["Content-Length: 10000001", "Transfer-Encoding: chunked"])
def test_a_body_that_is_too_large_is_not_read(house, ann, how):
    digest = digest_of(how.encode())
    tls = house.raw(ann)
    tls.sendall(f"PATCH /v1/payloads/{digest} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\n{how}\r\n\r\n".encode())
    if "chunked" in how:
        for _ in range(200):
            tls.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
    response = http.client.HTTPResponse(tls)
    response.begin()
    assert response.status == 413  # of what has a length before any of it was sent
    assert house.desk.blobs.offset(digest) <= 10**7
    assert house.desk.blobs.largest < 4 * PIECE_BYTES
    tls.close()


@pytest.mark.parametrize(
    ("digest", "headers"),
    [
        ("x", {"Upload_Offset": "0"}),
        ("0" * 63 + "A", {"Upload_Offset": "0"}),
        ("0" * 64, {}),
        ("0" * 64, {"Upload_Offset": "-1"}),
        ("0" * 64, {"Upload_Offset": "0", "Upload_Complete": "yes"}),
    ],
)
def test_what_is_no_upload(house, ann, digest, headers):
    said = house.ask(ann, "PATCH", f"/v1/payloads/{digest}", b"", **headers)
    assert said.status == 422
    assert said.json["remedy"]


def test_a_payload_is_fetched_by_whom_a_letter_tells_of_it(house, ann):
    payload = os.urandom(700_000)
    (digest,) = house.desk.send("ann", payload)
    path = f"/v1/payloads/{digest}"
    assert house.ask(ann, "GET", path).body == payload
    rest = house.ask(ann, "GET", path, Range="bytes=600000-")
    assert (rest.status, rest.body) == (206, payload[600_000:])
    assert rest.headers["Content-Range"] == "bytes 600000-699999/700000"
    assert house.ask(ann, "GET", path, Range="bytes=0-9,20-29").body == payload  # not offered, and so not heard
    behind = house.ask(ann, "GET", path, Range="bytes=700000-")
    assert (behind.status, behind.headers["Content-Range"]) == (416, "bytes */700000")
    assert house.ask(house.desk.join("bob"), "GET", path).status == 404
    house.desk.blobs.sweep(keep=set())
    assert house.ask(ann, "GET", path).status == 404


# Limits.


def test_who_asks_too_often_has_to_wait(consortium, tmp_path):
    with strict(consortium, tmp_path, requests_per_s=0.5, burst=3) as (house, ann):
        assert [house.ask(ann, "GET", "/v1/terms").status for _ in range(4)] == [200, 200, 200, 429]
        said = house.ask(ann, "GET", "/v1/terms")
        assert said.headers["Retry-After"] == "2"
        assert house.ask(house.desk.join("bob"), "GET", "/v1/terms").status == 200
        house.now[0] += 2
        assert house.ask(ann, "GET", "/v1/terms").status == 200


def test_attempts_to_enrol_are_few(consortium, tmp_path):
    with strict(consortium, tmp_path, enrolments_per_minute=2) as (house, _):
        body = json.dumps({"token": "guess", "request": ""})
        assert [house.ask(None, "POST", "/v1/enrol", body).status for _ in range(3)] == [403, 403, 429]
        house.now[0] += 30
        assert house.ask(None, "POST", "/v1/enrol", body, X_Forwarded_For="1.2.3.4").status == 403
        assert house.ask(None, "POST", "/v1/enrol", body, X_Forwarded_For="1.2.3.5").status == 429


def test_a_slow_body_and_slow_headers_are_given_up(consortium, tmp_path):
    with strict(consortium, tmp_path, body_s=0.1, head_s=0.1) as (house, ann):
        for line in ("POST /v1/letters", f"PATCH /v1/payloads/{'0' * 64}"):
            tls = house.raw(ann)
            tls.sendall(f"{line} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\nContent-Length: 9\r\n\r\n123".encode())
            response = http.client.HTTPResponse(tls)
            response.begin()
            assert response.status == 408
            tls.close()
        assert house.offset(ann, "0" * 64) == (3, "?0")
        for words in (b"", b"GET /health HT", b"\r\n"):
            tls = house.raw()
            tls.sendall(words)
            assert closed(tls)


def closed(tls):
    """Whether the other side ends the connection, without a word."""
    try:
        return tls.recv(100) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
    finally:
        tls.close()


def test_headers_without_end_are_given_up(house):
    tls = house.raw()
    tls.sendall(b"GET /health HTTP/1.1\r\n")
    with pytest.raises(BROKEN):
        tls.sendall((b"X: " + b"x" * 1000 + b"\r\n") * 10_000)
    tls.close()


def test_strangers_do_not_take_the_places_of_members(consortium, tmp_path):
    with strict(consortium, tmp_path, strangers=2, connections=4) as (house, ann):
        kept = [house.raw(), house.raw()]
        assert closed(house.raw())
        kept += [house.raw(ann), house.raw(ann)]
        assert closed(house.raw(ann))  # now all places are taken
        for tls in kept:
            tls.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert tls.recv(12) == b"HTTP/1.1 200"
            tls.close()


# Faults, and how it lives and ends.


@pytest.mark.parametrize(
    ("fault", "status", "error"),
    [
        (RuntimeError("a secret"), 500, "a fault inside the coordinator"),
        (RunError("a secret place", where="/srv"), 503, "the coordinator cannot work right now"),
        (OSError(errno.ENOSPC, "a secret"), 507, "the coordinator's disk is full"),
        (OSError(errno.EIO, "a secret"), 500, "a fault inside the coordinator"),
        (LinkRefused("no", remedy="Never"), 403, "no"),
        (WireError("not so", where="here"), 422, "here: not so"),
    ],
)
def test_faults_of_the_desk_are_told_without_their_insides(house, ann, fault, status, error):
    house.desk.fault = fault
    said = house.ask(ann, "GET", "/v1/terms")
    assert (said.status, said.json["error"]) == (status, error)
    assert b"secret" not in said.body
    assert b"Traceback" not in said.body


def test_what_does_not_exist(house, ann):
    for method, path, status in [("GET", "/v2/terms", 404), ("DELETE", "/v1/terms", 405), ("GET", "/v1/terms/", 404)]:
        said = house.ask(ann, method, path)
        assert (said.status, said.json["error"]) == (status, f"no {method} {path}")


def test_alive_and_ready(house, monkeypatch):
    assert house.ask(None, "GET", "/ready").json == {"ready": True}
    house.desk.fault = RunError("another leads")
    assert house.ask(None, "GET", "/ready").status == 200  # for as long as the answer holds
    house.now[0] += 3
    assert house.ask(None, "GET", "/ready").status == 503
    assert house.ask(None, "GET", "/health").json == {"alive": True, "protocol": SPOKEN}

    monkeypatch.setattr(members, "READY_S", 0.05)
    goes_on = threading.Event()
    monkeypatch.setattr(house.desk, "status", goes_on.wait)
    said = house.ask(None, "GET", "/ready")
    goes_on.set()
    assert (said.status, said.json["error"]) == (503, "the desk does not answer")


def test_metrics_count_by_route(house, ann):
    watcher = house.desk.join("watcher", Role.OBSERVER)
    house.ask(ann, "HEAD", f"/v1/payloads/{'1' * 64}")
    house.ask(ann, "GET", "/v1/nonsense")
    page = house.ask(watcher, "GET", "/metrics").body.decode()
    assert 'fedstill_requests_total{method="HEAD",route="/v1/payloads/{digest}",status="200"}' in page
    assert 'fedstill_requests_total{method="",route="",status="404"}' in page
    assert "1" * 64 not in page
    assert "fedstill_waiting_polls 0.0" in page


def test_the_server_stops_while_polls_are_open(consortium, tmp_path):
    with opened(consortium, tmp_path) as house:
        papers = house.desk.join("ann")
        waiting = polls(house, papers, 3)
        house.server.stop()
        for one in waiting:
            said = one.result(timeout=10)
            assert (said.status, unpack_parcels(said.body, 1000)) == (200, [])
        with pytest.raises(ConnectionRefusedError):
            house.ask(papers, "GET", "/health")


def test_small_packets_are_sent_at_once(house, ann):
    connection = house.connection(ann)
    connection.connect()
    connection.request("GET", "/v1/terms")
    assert connection.getresponse().read() == TERMS
    port = connection.sock.getsockname()[1]
    (mine,) = (one for one in house.server._uvicorn.server_state.connections if one.client[1] == port)
    assert mine.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    connection.close()


def test_a_server_that_cannot_be(house, tmp_path):
    papers = house.consortium.papers(COORDINATOR, Role.SERVER)
    fine = {
        "host": "127.0.0.1",
        "port": house.server.port,
        "certificate": papers.certificate,
        "key": papers.key,
        "authority_pem": house.consortium.authority.cert_pem,
    }
    app = create_app(house.desk, bell=house.bell)
    with pytest.raises(ConfigError, match="cannot listen"):
        Server(app, house.bell, **fine).start()
    for wrong in ({"key": tmp_path / "none"}, {"key": house.desk.join("bob").key}, {"authority_pem": b"\xff"}):
        with pytest.raises(ConfigError):
            Server(app, house.bell, **{**fine, **wrong})
