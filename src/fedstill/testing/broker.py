"""A real Mosquitto broker on this machine, for tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from fedstill.service.mosquitto import write_broker
from fedstill.transports.identity import Authority

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
"""Where the program is; None where it is not installed."""


class Mosquitto:
    """A broker for a consortium named "test", which can be killed and started again at the same ports.

    Parameters
    ----------
    folder:
        For its files; tests may change these before `start`.
    authority:
        Of the consortium.

    Attributes
    ----------
    address:
        Of the consortium, as participants need it.
    configuration:
        Its file.
    log:
        What it has said.
    """

    def __init__(self, folder: Path, authority: Authority) -> None:
        ports = free_ports(2)
        self.address = f"mqtts://127.0.0.1:{ports[0]}/test?enrol={ports[1]}"
        user = (
            "root" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
        )  # folders of tests are their owner's alone
        self.configuration = write_broker(
            folder, authority, self.address, datetime.now(UTC), listen="127.0.0.1", user=user
        )
        self.log: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and return when it listens. Raises RuntimeError with what it said where it does not."""
        if MOSQUITTO is None:
            raise RuntimeError("mosquitto is not installed")
        self._process = subprocess.Popen(  # noqa: S603 - a program of this machine
            [MOSQUITTO, "-v", "-c", str(self.configuration)], stderr=subprocess.PIPE, text=True, errors="replace"
        )
        for line in self._lines():
            if line.endswith(" running"):
                threading.Thread(target=lambda: list(self._lines()), daemon=True).start()
                return
        raise RuntimeError("\n".join(self.log))

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it live and do nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def _lines(self) -> Iterator[str]:
        if self._process is None or self._process.stderr is None:
            return
        for line in self._process.stderr:
            self.log.append(line.rstrip())
            yield self.log[-1]


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody uses right now."""
    with _bound(count) as sockets:
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def _bound(count: int) -> Iterator[list[socket.socket]]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        yield sockets
    finally:
        for one in sockets:
            one.close()
