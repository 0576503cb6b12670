"""What `coordinator` commands do."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import tomli_w

from fedstill.cli.logs import log_as_json
from fedstill.cli.output import one_line, show_time
from fedstill.config import read_toml
from fedstill.files import write_whole
from fedstill.service.clerk import Bell
from fedstill.service.consortium import Consortium
from fedstill.service.serving import open_desk
from fedstill.service.serving import serve as serve_until
from fedstill.transports.roles import Role

if TYPE_CHECKING:
    from fedstill.agent.visitor import Visitor


def serve(folder: Path, log_level: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    log_as_json(log_level)
    _open_more_files()
    consortium = Consortium(folder)

    async def run() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await serve_until(consortium, stopping, lambda line: click.echo(line, err=True))

    try:
        asyncio.run(run())
    finally:
        consortium.close()


def status(folder: Path) -> dict[str, Any]:
    """How far the newest run is: of a consortium's folder, or of the coordinator of a visitor's."""
    visitor = visitor_in(folder)
    if visitor is not None:
        return visitor.status()
    consortium = Consortium(folder)
    try:
        return {**open_desk(consortium, Bell()).status(), "leader": consortium.store.lease().owner}
    finally:
        consortium.close()


def show_status(told: dict[str, Any]) -> None:
    """The same for people."""

    def say(line: str) -> None:
        click.echo(one_line(line))

    say(f"{told['federation']}, run {told['run']}: {told['phase']}, round {told['round']} of {told['rounds']}")
    if told["why"]:
        say(f"  {told['why']}")
    if "leader" in told:
        say(f"  served by {told['leader']}" if told["leader"] else "  not served now")
    for name, one in told["parties"].items():
        seen = f"last seen {show_time(one['last_seen'])}" if one["last_seen"] else "not seen yet"
        heard = ", has answered the open question" if one["heard"] else ""
        say(f"  {name}: {one['status']}, {seen}{heard}")
    for closing in told["closings"]:
        missing = f", missing: {', '.join(closing['missing'])}" if closing["missing"] else ""
        refused = f", refused: {', '.join(closing['refused'])}" if closing["refused"] else ""
        taught = "taught" if closing["taught"] else "too few answers"
        say(f"  round {closing['round']}: {len(closing['answered'])} answers, {taught}{missing}{refused}")


def invite(folder: Path, name: str, role: str, days: float, *, mqtt: bool) -> Path:
    """Write an invite, or have the coordinator make one; returns the file."""
    visitor = visitor_in(folder)
    if visitor is not None:
        return visitor.invite(name, days, Role(role), mqtt=mqtt)
    consortium = Consortium(folder)
    try:
        return consortium.invite(name, days, Role(role), mqtt=mqtt)
    finally:
        consortium.close()


def revoke(folder: Path, name: str) -> None:
    """Let somebody in no more."""
    visitor = visitor_in(folder)
    if visitor is not None:
        visitor.revoke(name)
        return
    consortium = Consortium(folder)
    try:
        consortium.registry.revoke(name)
    finally:
        consortium.close()


def _open_more_files() -> None:
    """Every connection is an open file, of which systems grant few until they are asked for more."""
    if sys.platform != "win32":
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with suppress(ValueError, OSError):  # where the most is "unlimited", and is not
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def visitor_in(folder: Path) -> Visitor | None:
    """The observer, auditor or operator whose folder it is; None where it is another folder."""
    from fedstill.agent.visitor import Visitor  # which brings along what asks others; a coordinator only answers

    return Visitor(folder) if (folder / Visitor.SETTINGS).exists() else None


def write_broker(folder: Path, address: str, user: str) -> Path:
    """Write a broker's configuration, and its address to the consortium's settings."""
    from fedstill.service.mqtt.mosquitto import write_broker as write

    consortium = Consortium(folder)
    path = write(folder / "broker", consortium.authority, address, datetime.now(UTC), user=user)
    consortium.close()
    raw = read_toml(folder / "consortium.toml", "")
    write_whole(folder / "consortium.toml", tomli_w.dumps({**raw, "broker": address}).encode())
    return path
