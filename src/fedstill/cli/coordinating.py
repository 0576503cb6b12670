"""What `coordinator` commands do."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click

from fedstill.cli.logs import log_as_json
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
