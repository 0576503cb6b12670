"""Takes part in one run after the other: a participant as a service."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NoReturn

from fedstill.agent.home import Home
from fedstill.agent.loop import Observe, Patience, Replaced, Sleep, nobody, persist
from fedstill.agent.taking_part import Result, accepts, carry_out, connection, contract_of
from fedstill.agent.worker import Contract
from fedstill.agreement import read_terms
from fedstill.transports.letters import digest_of
from fedstill.transports.links import Link


async def stay(
    home: Home,
    *,
    accept: bool = False,
    patience: Patience | None = None,
    observe: Observe = nobody,
    sleep: Sleep = asyncio.sleep,
) -> NoReturn:
    """Take part in every run whose terms are accepted, and wait for the next one in between.

    Settings and data are read anew for each run. Terms that are not accepted wait until they are.

    Parameters
    ----------
    home:
        The participant's folder.
    accept:
        Accept the terms that the coordinator offers first, not those of later runs.
    patience, observe, sleep:
        See `loop.work`.

    Raises
    ------
    LinkRefused, WireError, ConfigError, DataError, LearnerError, MissingExtra
        As `taking_part.take_part`, but never LinkDown: it tries again.
    """
    patience = patience or Patience()
    done = ""
    with home.held():
        while True:
            link = connection(home)
            try:
                waiting = _Waiting(home, link, done, accept=accept, observe=observe)
                contract = await waiting.contract(patience, sleep)
                accept = False
                observe(f"run {contract.terms.run} {await _one(home, contract, link, patience, observe)}")
            finally:
                await link.close()
            done = contract.digest


async def _one(home: Home, contract: Contract, link: Link, patience: Patience, observe: Observe) -> str:
    if _report(home, contract).exists():
        return "has ended, and its model is here"
    try:
        return _said(await carry_out(home, contract, link, patience, observe))
    except Replaced as error:
        return f"is over: {error.what}"


def _report(home: Home, contract: Contract) -> Path:
    """What is written last."""
    return home.folder / "report" / str(contract.terms.run) / "report.json"


def _said(result: Result) -> str:
    if result.ended == "failed":
        return f"has failed: {result.why}"
    errors = ", ".join(f"{way} {value:.4g}" for way, value in (result.errors or {}).items() if value is not None)
    return f"has finished: {errors}; model: {result.model}, report: {result.report}"


class _Waiting:
    """Waits for terms that are accepted, of another run than the last."""

    def __init__(self, home: Home, link: Link, done: str, *, accept: bool, observe: Observe) -> None:
        self._home = home
        self._link = link
        self._done = done
        self._accept = accept
        self._observe = observe

    async def contract(self, patience: Patience, sleep: Sleep) -> Contract:
        while True:
            found = await persist(self._look, patience, self._observe, sleep)
            if found is not None:
                return found
            await sleep(patience.next_s)

    async def _look(self) -> Contract | None:
        data = await self._link.terms()
        if digest_of(data) == self._done:
            self._observe("waiting for the next run")
            return None
        terms = read_terms(data)
        if self._home.settings.participant.name not in terms.parties:
            self._observe(f"run {terms.run} does without this participant")
            return None
        if not self._accept and not accepts(self._home, data):
            self._observe(
                f"the terms of run {terms.run} have not been accepted here; "
                f"to do so: fedstill participant terms {self._home.folder} --accept"
            )
            return None
        contract = await contract_of(self._home, self._link, data)
        self._home.write("terms.json", data)
        return contract
