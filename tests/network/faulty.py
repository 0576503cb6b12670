"""What goes wrong between real processes: a TCP proxy that breaks connections, and a small disk that can be full."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FAULTS = ("cut", "reset", "stall", "delay", "throttle", "refuse")
READ_BYTES = 16 * 1024
CUT_BYTES = 12_000
"""What a faulty connection carries on average: a TLS handshake takes a few kB, and some are cut in it."""


class Proxy:
    """Carries connections to a port of this machine, and some of them badly: a context manager, with a thread.

    Parameters
    ----------
    to_port:
        Of the server.
    seed:
        From which follows what happens to which connection.
    faulty:
        The share of connections to which something happens.

    Attributes
    ----------
    port:
        Where it listens.
    counts:
        How many connections there were, and what happened to how many.
    """

    def __init__(self, to_port: int, seed: int, faulty: float = 0.8) -> None:
        self.counts: Counter[str] = Counter()
        self._to_port = to_port
        self._chance = random.Random(seed)  # noqa: S311 - faults, not secrets
        self._faulty = faulty
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()

    async def _run(self) -> None:
        server = await asyncio.start_server(self._carry, sock=self._listener)
        await self._stopping.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["connections"] += 1
        fault = self._chance.choice(FAULTS) if self._chance.random() < self._faulty else ""
        writers = [writer]
        try:
            if fault == "refuse":
                self.counts[fault] += 1
                return
            there, back = await asyncio.open_connection("127.0.0.1", self._to_port)
            writers.append(back)
            left = [int(self._chance.expovariate(1 / CUT_BYTES))]
            ways = [self._move(reader, back, fault, left), self._move(there, writer, fault, left)]
            moving = [asyncio.create_task(way) for way in ways]
            await asyncio.wait(moving, return_when=asyncio.FIRST_COMPLETED)
            for task in moving:
                task.cancel()
        except OSError:
            pass  # nobody listens there, for now
        finally:
            for one in writers:
                self._end(one, hard=fault in ("reset", "refuse"))

    async def _move(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: str, left: list[int]
    ) -> None:
        slow_s = {"delay": 0.03, "throttle": 0.01}.get(fault, 0.0)
        with contextlib.suppress(OSError):
            while data := await reader.read(512 if fault == "throttle" else READ_BYTES):
                left[0] -= len(data)
                if fault and left[0] < 0:
                    self.counts[fault] += 1
                    if fault != "stall":  # what was slow is cut in the end, too
                        writer.write(data[: left[0]])
                        await writer.drain()
                        return
                    await asyncio.sleep(self._chance.uniform(0.2, 3))
                    left[0] = int(self._chance.expovariate(1 / CUT_BYTES))
                if slow_s:
                    await asyncio.sleep(self._chance.uniform(0, slow_s))
                writer.write(data)
                await writer.drain()

    @staticmethod
    def _end(writer: asyncio.StreamWriter, *, hard: bool) -> None:
        with contextlib.suppress(OSError):
            if hard:  # no farewell but a reset
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            writer.close()


class SmallDisk:
    """A folder on a file system of its own, which can be filled to the last byte."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Nothing more fits."""
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while file.write(bytes(64 * 1024)):
                pass
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while file.write(bytes(1)):
                pass

    def free(self) -> None:
        """There is room again."""
        self._filler.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int = 48) -> Iterator[SmallDisk | None]:
    """Put a folder on a small disk; None where this machine does not let us (it takes root on Linux)."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(folder)]
    mounted = False
    if sys.platform == "linux" and os.geteuid() == 0:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield SmallDisk(folder) if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607
