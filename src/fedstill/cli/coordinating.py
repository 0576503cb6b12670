"""What `coordinator` commands do."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime
from pathlib import Path

import click
import tomli_w

from fedstill.cli.logs import log_as_json
from fedstill.config import read_toml
from fedstill.files import write_whole
from fedstill.service.consortium import Consortium
from fedstill.service.serving import serve as serve_until


def serve(folder: Path, log_level: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    log_as_json(log_level)
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


def write_broker(folder: Path, address: str, user: str) -> Path:
    """Write a broker's configuration, and its address to the consortium's settings."""
    from fedstill.service.mqtt.mosquitto import write_broker as write

    consortium = Consortium(folder)
    path = write(folder / "broker", consortium.authority, address, datetime.now(UTC), user=user)
    consortium.close()
    raw = read_toml(folder / "consortium.toml", "")
    write_whole(folder / "consortium.toml", tomli_w.dumps({**raw, "broker": address}).encode())
    return path
