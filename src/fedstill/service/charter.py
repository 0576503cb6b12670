"""The terms of a run with what they name, and the coordinator that they describe.

The terms say all there is to know: a coordinator that starts again, and an auditor, build the same machine from them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedstill import plugins, wire
from fedstill.agreement import Terms, read_agreement
from fedstill.errors import WireError
from fedstill.labels import Parameters
from fedstill.round import Coordinator, Plan
from fedstill.strategy import Strategy


@dataclass(frozen=True)
class Charter:
    """The terms of a run, and the payloads that they name by their digests."""

    terms: Terms
    payloads: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """SHA-256 of the terms: what every letter of the run carries."""
        return hashlib.sha256(self.terms.to_bytes()).hexdigest()


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
    try:
        plan = Plan(
            tuple(terms.parties),
            agreement.task.outputs,
            len(agreement.inputs),
            terms.rounds,
            terms.quorum,
            terms.deadline_s,
            stop_after=terms.stop_after,
        )
    except ValueError as error:
        raise WireError(f"nobody could follow these terms: {error}") from None
    return Coordinator(plan, strategy, agreement.coder, agreement.inputs)


def _read_start(data: bytes) -> Parameters:
    _, arrays = wire.unpack(data, type(None))
    return arrays
