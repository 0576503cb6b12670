"""Small federations that run in every way: here, in a pool, between machines."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedstill import config
from fedstill.agent.joining import join
from fedstill.agent.taking_part import Result, take_part
from fedstill.assemble import assemble
from fedstill.energy.synthetic import synthetic
from fedstill.service.consortium import Consortium
from fedstill.service.founding import found
from fedstill.service.serving import serve
from fedstill.testing.broker import Mosquitto

NAMES = ("alpha", "beta", "gamma")
LEARNERS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "grouped": [("linear", {"iterations": 20}), ("extra_trees", {"trees": 4}), ("mlp", {"hidden": [8], "epochs": 3})],
    "fedavg": [("mlp", {"hidden": [8], "epochs": 3})] * 3,
    "sketched": [("linear", {"iterations": 20}), ("extra_trees", {"trees": 4}), ("linear", {"decay": 3.0})],
}


def write_data(folder: Path) -> Path:
    """Load of five artificial sites, for a year's tenth."""
    frame = synthetic(5, 70)
    named = dict(zip(sorted(frame["unique_id"].unique()), (*NAMES, "public-1", "public-2"), strict=True))
    path = folder / "load.csv"
    frame.assign(unique_id=frame["unique_id"].map(named)).to_csv(path, index=False)
    return path


def describe(data: Path, strategy: str, rounds: int = 2, **settings: Any) -> config.FederationFile:
    """A federation file, as a mapping."""
    return config.parse(
        {
            "name": "small",
            "rounds": rounds,
            "seed": 5,
            "task": {"test": ["2016-03-01", "2016-03-08"], "levels": [0.1, 0.5, 0.9], "folds": 2},
            "data": {"file": str(data), "timezone": "Europe/Berlin"},
            "transfer": {"sites": ["public-1", "public-2"], "items": 60},
            "strategy": {"name": strategy},
            "participants": [
                {"name": name, "learner": learner, "options": options, **SHARED}
                for name, (learner, options) in zip(NAMES, LEARNERS[strategy], strict=True)
            ],
            **settings,
        }
    )


SHARED: dict[str, Any] = {"history": ["2016-01-10", "2016-02-25"], "companions": []}


def run_here(file: config.FederationFile, out: Path) -> Path:
    """Run it on this machine; returns the folder of models."""
    assemble(file, out).run(out)
    return out / "models"


def table_of(file: config.FederationFile, name: str) -> dict[str, Any]:
    """What a participant says of itself when it joins."""
    one = next(table for table in file.participants if table.name == name)
    return {
        "learner": one.learner,
        "options": one.options,
        "file": file.data.file,
        "timezone": "Europe/Berlin",
        **SHARED,
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Consortium]:
    """A coordinator in a thread of this process, until the block ends."""
    consortium = Consortium(folder)
    ready, loops, faults = threading.Event(), [], []

    async def run() -> None:
        stopping = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stopping))
        await serve(consortium, stopping, lambda _: ready.set())

    def work() -> None:
        try:
            asyncio.run(run())
        except Exception as error:
            faults.append(error)
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(30)
        assert not faults, faults
        yield consortium
    finally:
        for loop, stopping in loops:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(stopping.set)
        thread.join(30)
        consortium.close()
    assert not faults, faults


async def take_part_all(
    consortium: Consortium, file: config.FederationFile, folder: Path, *, mqtt: bool
) -> dict[str, Result]:
    """Invite, join and take part, all over the network."""
    homes = {}
    for name in NAMES:
        invite = consortium.invite(name, 1, mqtt=mqtt)
        homes[name] = await join(invite, folder / name, table_of(file, name))
    results = await asyncio.gather(*(take_part(home, accept=True) for home in homes.values()))
    return dict(zip(homes, results, strict=True))


def run_between_machines(file: config.FederationFile, out: Path, *, mqtt: bool = False) -> dict[str, Result]:
    """Run it over HTTPS or MQTT on loopback, each participant with a folder of its own."""
    founded = found(out / "consortium", file, out, f"https://127.0.0.1:{free_port()}")
    founded.close()
    with contextlib.ExitStack() as stack:
        if mqtt:
            broker = stack.enter_context(Mosquitto(out / "broker", founded.authority))
            settings = (out / "consortium" / "consortium.toml").read_text(encoding="utf-8")
            (out / "consortium" / "consortium.toml").write_text(
                f'{settings}broker = "{broker.address}"\n', encoding="utf-8"
            )
        consortium = stack.enter_context(served(out / "consortium"))
        return asyncio.run(take_part_all(consortium, file, out, mqtt=mqtt))


def contents(folder: Path) -> Mapping[str, str]:
    """SHA-256 of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
