"""From a federation file to the terms of a run, and from terms to the coordinator that carries it out.

The terms say all there is to know: a coordinator that starts again, and an auditor, build the same machine from them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from fedstill import plugins, wire
from fedstill.agreement import FORMAT, Terms, read_agreement, write_transfer
from fedstill.assemble import assemble
from fedstill.config import FederationFile
from fedstill.errors import ConfigError, WireError
from fedstill.labels import Parameters
from fedstill.round import Coordinator, Plan
from fedstill.strategy import Strategy
from fedstill.transports.letters import COORDINATOR, MAX_NAME_LENGTH

DEADLINE_S = 3600.0
"""What a question waits for between machines unless the file says otherwise: nobody who vanishes holds others up."""


@dataclass(frozen=True)
class Charter:
    """The terms of a run, and the payloads that they name by their digests."""

    terms: Terms
    payloads: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """SHA-256 of the terms: what every letter of the run carries."""
        return hashlib.sha256(self.terms.to_bytes()).hexdigest()

    def coordinator(self) -> Coordinator:
        """The machine of the run. Raises WireError where terms and payloads do not fit each other."""
        return coordinator_of(self.terms, self.payloads)


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


def coordinator_of(terms: Terms, payloads: Mapping[str, bytes]) -> Coordinator:
    """The machine that terms describe.

    Raises
    ------
    WireError
        Where terms and payloads do not fit each other.
    """
    agreement = read_agreement(terms, payloads[terms.transfer])
    strategy: Strategy = plugins.build("algorithms", terms.strategy, terms.options, where="strategy")
    strategy = strategy if terms.stop_after is None else strategy.scored()
    if strategy.recipes != tuple(terms.recipes):
        raise WireError(
            f"'{terms.strategy}' asks participants for something else than the terms say",
            remedy="Use the version of fedstill that drew them up",
        )
    if terms.start:
        strategy = replace(strategy, memory=_read_start(payloads[terms.start]))
    plan = Plan(
        tuple(terms.parties),
        agreement.task.outputs,
        len(agreement.inputs),
        terms.rounds,
        terms.quorum,
        terms.deadline_s,
        stop_after=terms.stop_after,
    )
    return Coordinator(plan, strategy, agreement.coder, agreement.inputs)


def _write_start(strategy: Strategy) -> bytes:
    return wire.pack(None, {name: np.asarray(array) for name, array in strategy.memory.items()})


def _read_start(data: bytes) -> Parameters:
    _, arrays = wire.unpack(data, type(None))
    return arrays
