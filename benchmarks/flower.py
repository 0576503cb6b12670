"""Rounds of Flower's deployment engine on loopback, to stand beside ours: see `network.py --flower`.

Flower (flwr 1.2x or newer) lives in a virtual environment of its own. One SuperLink and one SuperNode for each
participant run without TLS; each round sends a model of the given size to everybody, who send it back, and averages.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "echo"
version = "1.0.0"
description = "Sends back what it gets"
license = "Apache-2.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "benchmark"

[tool.flwr.app.components]
serverapp = "echo.app:server"
clientapp = "echo.app:client"

[tool.flwr.app.config]
"""

APP = """
import os
import time

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()
number, rounds, size = (int(os.environ["ECHO_" + name]) for name in ("PARTICIPANTS", "ROUNDS", "FLOATS"))


@client.train()
def train(message, context):
    said = RecordDict({"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})})
    return Message(said, reply_to=message)


class Watched(FedAvg):
    def aggregate_train(self, server_round, replies):
        averaged = super().aggregate_train(server_round, replies)
        with open(os.environ["ECHO_TIMES"], "a") as file:
            file.write(f"{time.time()}\\n")
        return averaged


@server.main()
def main(grid, context):
    strategy = Watched(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=number, min_available_nodes=number)
    strategy.start(grid=grid, initial_arrays=ArrayRecord([np.zeros(size, np.float32)]), num_rounds=rounds)
"""

PATIENCE_S = 600.0


def flower_rounds(environment: Path, number: int, size: int, rounds: int) -> list[float]:
    """Seconds of each round but the first.

    Parameters
    ----------
    environment:
        The folder of Flower's virtual environment.
    number, size, rounds:
        Participants, bytes of the model, and rounds.

    Raises
    ------
    RuntimeError
        Where Flower does not come to its end.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        app, times = folder / "app", folder / "times"
        (app / "echo").mkdir(parents=True)
        (app / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
        (app / "echo" / "__init__.py").write_text("", encoding="utf-8")
        (app / "echo" / "app.py").write_text(APP, encoding="utf-8")
        control = free_port()
        home = folder / "home"
        home.mkdir()
        link = f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{control}"\ninsecure = true\n'
        (home / "config.toml").write_text(link, encoding="utf-8")
        settings = {
            "PATH": f"{environment.resolve() / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": name,
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "ECHO_TIMES": str(times),
            "ECHO_PARTICIPANTS": str(number),
            "ECHO_ROUNDS": str(rounds),
            "ECHO_FLOATS": str(size // 4),
        }
        with children({**os.environ, **settings}, folder) as start:
            bare = "--disable-runtime-dependency-installation"  # there are none, and it would ask a registry
            start("flower-superlink", "--insecure", bare, "--host", "127.0.0.1", "--port", str(control))
            reachable(control)
            for i in range(number):
                node = f"partition-id={i} num-partitions={number}"
                where = ("--host", "127.0.0.1", "--port", str(free_port()))
                start(
                    "flower-supernode",
                    "--insecure",
                    "--superlink",
                    f"127.0.0.1:{control}",
                    *where,
                    "--node-config",
                    node,
                )
            start("flwr", "run", str(app), "here")
            ends = awaited(times, rounds)
    return [later - earlier for earlier, later in pairwise(ends)]


def free_port() -> int:
    """A port that nobody has right now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def reachable(port: int) -> None:
    """Wait until somebody listens."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    raise RuntimeError("Flower's server does not start")


def awaited(times: Path, rounds: int) -> list[float]:
    """When each round ended."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        ends = [float(line) for line in times.read_text().splitlines()] if times.exists() else []
        if len(ends) == rounds:
            return ends
        time.sleep(0.1)
    raise RuntimeError(f"Flower has ended {len(ends)} of {rounds} rounds")


@contextmanager
def children(environment: dict[str, str], folder: Path) -> Iterator[object]:
    """Start processes that are all ended afterwards, with what they have started."""
    started: list[subprocess.Popen[bytes]] = []

    def start(program: str, *arguments: str) -> None:
        command = (shutil.which(program, path=environment["PATH"]) or program, *arguments)
        with (folder / f"log{len(started)}").open("wb") as log:
            options = {"env": environment, "stdout": log, "stderr": log, "cwd": folder, "start_new_session": True}
            started.append(subprocess.Popen(command, **options))  # type: ignore[call-overload]  # noqa: S603

    try:
        yield start
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in started:
            process.wait()
