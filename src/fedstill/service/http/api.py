"""The coordinator's HTTP interface: an ASGI app over a desk. Its OpenAPI document is at `/v1/openapi.json`.

Errors are JSON, `{"error": what, "remedy": what to do}`:

    401 no client certificate    403 not a member, not for this role, or of a protocol that is not spoken here
    404, 405 no such thing    408 the body came too slowly    409 a piece or a letter does not fit what is here
    413 too large    416 a range behind the end    422 not what it should be    429 too often
    500 our fault    503 not leading, or not able to write    507 the disk is full

Who may ask for what stands in `service.rights`; routes are in files by who asks: `members`, `participants`,
`overseers`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

import fedstill
from fedstill.service.callers import Refused
from fedstill.service.clerk import Administration, Bell, Counter
from fedstill.service.http.gate import Gate
from fedstill.service.http.house import House
from fedstill.service.http.members import members, strangers
from fedstill.service.http.overseers import overseers
from fedstill.service.http.participants import participants
from fedstill.service.limits import Limits
from fedstill.transports.protocol import HEADER, SPOKEN, UNSAID


def create_app(
    counter: Counter,
    *,
    bell: Bell,
    administration: Administration | None = None,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """Make the app.

    Parameters
    ----------
    counter:
        The desk.
    bell:
        Which the desk rings for those who wait for letters.
    administration:
        What operators and auditors come for; None: there is nothing for them.
    limits:
        Bounds on what comes from outside.
    clock:
        Seconds by a clock that never goes back, for how often somebody may ask and how long an answer holds.

    Returns
    -------
    The app. Its `state.house` has `clerk`, by which others work in the desk's thread, and `gauges`.
    """
    house = House(counter, bell, administration, limits or Limits(), clock)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        yield
        await house.clerk.close()

    app = FastAPI(
        title="fedstill coordinator",
        version=fedstill.__version__,
        description=(
            f"The header {HEADER} of requests to /v1 says which version of the protocol they are of (without it: "
            f"{UNSAID}), and that of answers which one is spoken here ({SPOKEN})."
        ),
        openapi_url=None,  # served to members, by a route of ours
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.house = house
    for routes in (participants, members, strangers, overseers):
        app.router.routes.extend(routes.routes)  # side by side: to look in router after router takes time
    for status in (404, 405):
        app.add_exception_handler(status, _unknown)
    app.add_exception_handler(RequestValidationError, _misread)
    app.add_middleware(Gate, clerk=house.clerk, limits=house.limits, gauges=house.gauges, clock=clock)
    return app


# What the app says of faults that the framework finds.


async def _unknown(request: Request, fault: Exception) -> Response:
    """No such path, or not with this method."""
    raise Refused(
        getattr(fault, "status_code", 404), f"no {request.method} {request.url.path[:80]}", "See /v1/openapi.json"
    )


async def _misread(request: Request, fault: Exception) -> Response:
    """A parameter is not what it should be."""
    del request
    first = fault.errors()[0] if isinstance(fault, RequestValidationError) else {}
    place = ".".join(str(part) for part in first.get("loc", ()))
    raise Refused(422, f"{place}: {first.get('msg', 'not valid')}", "See /v1/openapi.json")
