"""What `fedstill doctor` finds in the folder of a participant, or of somebody who takes no part."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from fedstill.agent.home import Home
from fedstill.agent.taking_part import link_of
from fedstill.agent.visitor import Visitor
from fedstill.assemble import build_task
from fedstill.config import FederationFile
from fedstill.service.checks import Check, attempt, certificate, free_disk, private

CLOCK_S = 60.0
"""Clocks that are further apart than this make logs hard to compare."""

PROXIES = ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "FEDSTILL_CA_BUNDLE")


def check_participant(folder: Path) -> Iterator[Check]:
    """Look at a participant's folder, its data and its way to the coordinator, without changing anything."""
    home = Home(folder)
    yield private(folder / "key.pem")
    yield attempt("settings", lambda: f"{home.settings.participant.name} at {home.settings.address}")
    yield attempt("key and certificates", lambda: f"of {home.coordinator.name}, {home.identity.kind}")
    path = folder / "certificate.pem"
    if path.exists():
        remedy = "Let `fedstill participant run` work, which renews it; if it has ended, ask for a new invitation"
        yield certificate("certificate.pem", path.read_bytes(), datetime.now(UTC), remedy)
    yield free_disk(folder)
    yield _proxy()
    yield attempt("data", lambda: _data(home))
    yield attempt("coordinator", lambda: asyncio.run(_reached(home)))


def check_visitor(folder: Path) -> Iterator[Check]:
    """Look at an observer's, auditor's or operator's folder, and its way to the coordinator."""
    visitor = Visitor(folder)
    yield private(folder / "key.pem")
    yield attempt(
        "settings", lambda: f"{visitor.settings.name}, {visitor.settings.role}, at {visitor.settings.address}"
    )
    yield attempt("key and certificates", lambda: f"of {visitor.coordinator.name}, {visitor.identity.kind}")
    path = folder / "certificate.pem"
    if path.exists():
        remedy = "Ask for something, which renews it; if it has ended, ask for a new invitation"
        yield certificate("certificate.pem", path.read_bytes(), datetime.now(UTC), remedy)
    yield _proxy()
    yield attempt("coordinator", lambda: f"reached; run {visitor.status()['run']}")


def _proxy() -> Check:
    proxies = {name: os.environ[name] for name in PROXIES if name in os.environ}
    return Check("proxy", True, ", ".join(f"{name}={value}" for name, value in proxies.items()) or "none is set")


def _data(home: Home) -> str:
    accepted = home.standing_on
    if accepted is None:
        return "looked at once terms are accepted"
    terms = accepted.terms
    task = build_task(FederationFile(task={"kind": terms.task, **_settings(terms.settings)}))
    prepared = task.prepare(home.settings.participant.name, home.member(task).data, home.settings.participant.history)
    return f"{len(prepared.site.rows)} rows to learn from, {len(prepared.examination.X)} to be judged on"


def _settings(settings: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in settings.items() if key != "name"}


async def _reached(home: Home) -> str:
    link = link_of(home)
    try:
        terms = await link.terms()
        apart = time.time() - await link.clock()
    finally:
        await link.close()
    offered = "the accepted terms" if terms == home.accepted else "terms that are not accepted yet"
    late = "" if abs(apart) < CLOCK_S else f"; the clocks are {apart:.0f} s apart: set this one"
    return f"reached, offers {offered}{late}"
