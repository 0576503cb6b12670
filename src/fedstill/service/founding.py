"""From a federation file to a consortium's folder, and to the terms of its runs; nobody's private data are read."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import tomli_w

from fedstill import wire
from fedstill.agreement import FORMAT, Terms, write_transfer
from fedstill.assemble import assemble
from fedstill.config import FederationFile
from fedstill.errors import ConfigError
from fedstill.files import write_whole
from fedstill.round import Phase
from fedstill.service.charter import Charter
from fedstill.service.consortium import Consortium, certificates_of, checked_address
from fedstill.service.desk import convene
from fedstill.service.store.tables import RunRow
from fedstill.strategy import Strategy
from fedstill.transports.authority import Authority
from fedstill.transports.identity import Identity
from fedstill.transports.letters import COORDINATOR, MAX_NAME_LENGTH
from fedstill.transports.roles import Role

DEADLINE_S = 3600.0
"""What a question waits for between machines unless the file says otherwise: nobody who vanishes holds others up."""


def found(folder: Path, file: FederationFile, file_folder: Path, address: str, database: str = "") -> Consortium:
    """Make a consortium's folder: certificates, database, and the terms of its first run.

    Parameters
    ----------
    folder:
        It must not exist, or be empty.
    file, file_folder:
        The federation file and where it lies.
    address:
        https://host:port, where participants will find the coordinator.
    database:
        URL of another database than a file in the folder.

    Raises
    ------
    ConfigError, DataError
        Where the folder is taken, or address or federation file cannot be used; nothing is left behind then.
    """
    host = checked_address(address)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError("this folder is not empty", where=str(folder), remedy="Name another one")
    draw_up(file, file_folder, 1)  # whatever is wrong shows before anything is made
    now = datetime.now(UTC)
    name = file.name or folder.name
    authority = Authority.create(name, now)
    coordinator, server = Identity.create(), Identity.create("p256")
    certificates = {"authority": authority.cert_pem, **certificates_of(authority, coordinator, server, host, now)}
    folder.mkdir(parents=True, exist_ok=True)
    keys = {"authority": authority.key_pem, "coordinator": coordinator.key_pem, "server": server.key_pem}
    for key, pem in keys.items():
        write_whole(folder / f"{key}.key", pem, private=True)
        write_whole(folder / f"{key}.pem", certificates[key])
    settings = {"name": name, "address": address} | ({"database": database} if database else {})
    write_whole(folder / "consortium.toml", tomli_w.dumps(settings).encode())
    consortium = Consortium(folder)
    plan(consortium, msgspec.structs.replace(file, name=name), file_folder)
    return consortium


def plan(consortium: Consortium, file: FederationFile, folder: Path) -> RunRow:
    """Draw up the terms of the next run. Raises ConfigError, also where a run is under way."""
    runs = consortium.store.runs()
    if runs and runs[-1].phase == Phase.OPEN:
        raise ConfigError(
            f"run {runs[-1].number} is under way", where=str(consortium.folder), remedy="Let it end first"
        )
    number = runs[-1].number + 1 if runs else 1
    others = {party.name: party.role for party in consortium.store.parties() if party.role != Role.PARTICIPANT}
    for table in file.participants:
        if table.name in others:
            raise ConfigError(
                f"'{table.name}' is the name of an {others[table.name]}",
                where="participants",
                remedy="Call the participant by another name",
            )
    return convene(consortium.store, consortium.blobs, draw_up(file, folder, number), time.time())


def draw_up(file: FederationFile, folder: Path, run: int) -> Charter:
    """The terms of a run of a federation file; nobody's private data are read.

    Raises
    ------
    ConfigError, DataError
        Where the file cannot be run between machines.
    """
    for table in file.participants:
        if table.name == COORDINATOR or len(table.name) > MAX_NAME_LENGTH:
            raise ConfigError(
                f"'{table.name}' cannot be a participant's name between machines",
                where="participants",
                remedy=f"Use another name, of at most {MAX_NAME_LENGTH} letters",
            )
    federation = assemble(file, folder, private=False)
    if not federation.coordinator.rounds:
        raise ConfigError(
            f"'{federation.strategy.name}' is a reference for comparison: nothing is exchanged",
            where="strategy.name",
            remedy="Run it on one machine: fedstill run",
        )
    options = dict(file.strategy)
    plan = federation.plan
    transfer = write_transfer(federation.transfer)
    start = b"" if not federation.strategy.parametric else _write_start(federation.strategy)
    digests = {hashlib.sha256(payload).hexdigest(): payload for payload in (transfer, start) if payload}
    named = {payload: digest for digest, payload in digests.items()}
    terms = Terms(
        format=FORMAT,
        federation=file.name,
        run=run,
        parties=plan.parties,
        task=federation.task.name,
        settings=asdict(federation.task),  # type: ignore[call-overload]
        codec=file.codec,
        recipes=federation.strategy.recipes,
        rounds=federation.coordinator.rounds,
        seed=file.seed,
        strategy=options.pop("name", "grouped"),
        options=options,
        quorum=plan.quorum,
        deadline_s=plan.deadline_s if math.isfinite(plan.deadline_s) else DEADLINE_S,
        stop_after=plan.stop_after,
        transfer=named[transfer],
        transfer_bytes=len(transfer),
        start=named.get(start, ""),
        start_bytes=len(start),
    )
    return Charter(terms, digests)


def _write_start(strategy: Strategy) -> bytes:
    return wire.pack(None, {name: np.asarray(array) for name, array in strategy.memory.items()})
