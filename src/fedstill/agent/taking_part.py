"""What an enterprise does with its folder: accept the terms of a federation, take part."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fedstill.agent.home import MAX_PAYLOAD_BYTES, Accepted, Home
from fedstill.agent.journal import Journal
from fedstill.agent.loop import Observe, Patience, closed, nobody, persist, work
from fedstill.agent.pacing import Bucket, PacedLink
from fedstill.agent.renewal import RenewingLink
from fedstill.agent.worker import Contract, Worker
from fedstill.agreement import Terms, read_agreement, read_terms
from fedstill.environment import describe
from fedstill.errors import ConfigError, WireError
from fedstill.evaluation.report import write_report
from fedstill.evaluation.summary import build_report
from fedstill.judging import conclude, outcome, store
from fedstill.privacy.durable import SQLiteLedger
from fedstill.transports.calls import Traffic
from fedstill.transports.letters import digest_of
from fedstill.transports.links import Link
from fedstill.transports.ways import Way, connect


@dataclass(frozen=True)
class Result:
    """How a run has ended for a participant: "finished" or "failed", why, and where its model and report are."""

    ended: str
    why: str
    model: Path | None = None
    report: Path | None = None
    errors: dict[str, float | None] | None = None


def link_of(home: Home) -> Way:
    """The way to its coordinator, with the certificate that it has now."""
    return connect(
        home.settings.address,
        certificate=home.folder / "certificate.pem",
        key=home.folder / "key.pem",
        authority_pem=home.authority,
    )


def connection(home: Home) -> Link:
    """The same for long work: the certificate is renewed in time, and the owner's bandwidth kept."""
    _ = home.identity, home.coordinator  # whatever is wrong with these shows before anything else
    link: Link = RenewingLink(home, lambda: link_of(home), time.time)
    rate = home.settings.rules.bandwidth_kb_per_s
    return link if rate is None else PacedLink(link, Bucket(1000 * rate), Bucket(1000 * rate))


async def offered(home: Home, link: Link, *, keep: bool = True) -> tuple[Contract, bytes]:
    """What the participant would stand on, and the terms as the coordinator offers them now.

    Parameters
    ----------
    home, link:
        Of the participant.
    keep:
        Write the transfer set into the folder, so that it is fetched once.

    Raises
    ------
    LinkDown, LinkRefused, WireError
        Where they cannot be had.
    ConfigError
        Where this participant is not one of theirs.
    """
    data = await link.terms()
    return await contract_of(home, link, data, keep=keep), data


async def contract_of(home: Home, link: Link, data: bytes, *, keep: bool = True) -> Contract:
    """What the participant stands on with these terms; see `offered`."""
    terms = read_terms(data)
    name = home.settings.participant.name
    if name not in terms.parties:
        raise ConfigError(f"'{name}' does not take part in run {terms.run}", where="terms", remedy="Ask the operator")
    agreement = read_agreement(terms, await _transfer(home, link, terms, keep=keep))
    return Contract(terms, digest_of(data), agreement, home.identity, home.coordinator)


async def _transfer(home: Home, link: Link, terms: Terms, *, keep: bool) -> bytes:
    if terms.transfer_bytes > MAX_PAYLOAD_BYTES:
        raise WireError(f"a transfer set of {terms.transfer_bytes} bytes is over the bound of {MAX_PAYLOAD_BYTES}")
    if home.payloads.is_dir() and home.blobs.has(terms.transfer):
        return home.blobs.get(terms.transfer)
    data = await link.fetch(terms.transfer, terms.transfer_bytes)
    if keep:
        home.blobs.put(data)
    return data


async def agreed(home: Home, link: Link, *, accept: bool) -> Contract:
    """The same, where its owner has accepted these terms, or does so now. Raises ConfigError where not."""
    data = await link.terms()
    if not accept and not accepts(home, data):
        raise ConfigError(
            "the coordinator offers terms that have not been accepted here",
            where=str(home.folder),
            remedy=f"Read them: fedstill participant terms {home.folder}; then run with --accept",
        )
    contract = await contract_of(home, link, data)
    home.write("terms.json", data)
    return contract


def accepts(home: Home, data: bytes) -> bool:
    """Whether its owner has accepted these terms, or has said that such terms are accepted."""
    before = home.standing_on
    if before is None:
        return False
    return data == before.data or (home.settings.rules.accept == "same" and same_but_run(before, data))


def same_but_run(before: Accepted, data: bytes) -> bool:
    """Whether terms are those of a later run, and otherwise the same to the last byte. Raises WireError."""
    terms = read_terms(data)
    as_before = msgspec.structs.replace(terms, run=before.terms.run).to_bytes()
    # What is read must be all that stands there: JSON can say a thing twice, or in two ways.
    return terms.to_bytes() == data and as_before == before.data and terms.run > before.terms.run


def worker_of(home: Home, contract: Contract) -> Worker:
    """The participant at work. Raises ConfigError, DataError, LearnerError, MissingExtra."""
    member = home.member(contract.agreement.task)
    journal = Journal(home.journal_path, contract.digest)
    ledger = SQLiteLedger(home.ledger_path, member.name, member.privacy.budget, time.time, contract.digest)
    return Worker(contract, member, journal, ledger, home.blobs, time.time, home.settings.rules)


async def take_part(
    home: Home, *, accept: bool = False, patience: Patience | None = None, observe: Observe = nobody
) -> Result:
    """Take part in the run that the coordinator serves, to its end. Raises what the parts above and below raise.

    Who has taken part before, and starts while its coordinator is away, waits for it; who never has, and may have been
    given a wrong address, is told by LinkDown.
    """
    patience = patience or Patience()
    with home.held():
        link = connection(home)

        async def first() -> Contract:
            return await agreed(home, link, accept=accept)

        try:
            contract = await (first() if home.accepted is None else persist(first, patience, observe))
            return await carry_out(home, contract, link, patience, observe)
        finally:
            await link.close()


async def carry_out(home: Home, contract: Contract, link: Link, patience: Patience, observe: Observe) -> Result:
    """Take part in a run to its end, and keep what comes of it.

    Raises
    ------
    LinkRefused, WireError, Replaced
        As `loop.work`.
    ConfigError, DataError, LearnerError, MissingExtra
        As `worker_of`.
    """
    worker = worker_of(home, contract)
    try:
        observe(f"learns from {len(worker.prepared.site.rows)} rows; waiting for the coordinator")
        await work(worker, link, clock=time.time, patience=patience, observe=observe)
        if worker.ended == "failed":
            return Result("failed", worker.why)
        while await closed(worker, time.time, patience.poll_s, observe):
            pass
        with worker.threads.held():
            return kept(home, contract.terms, worker)
    finally:
        worker.close()


def kept(home: Home, terms: Terms, worker: Worker) -> Result:
    """Choose what to keep of a finished run, and write it with a report on the participant's own test days."""
    prepared, agreement = worker.prepared, worker.contract.agreement
    ended = conclude(worker.participant, prepared.examination.X)
    model, report = (home.folder / kind / str(terms.run) for kind in ("models", "report"))
    stored = store(worker.participant, agreement.model(worker.make, prepared, ended.kept), model)
    traffic = Traffic()
    party = prepared.site.party
    for sent in worker.journal.sent():
        traffic.up[0][party] += sent.size
    result = outcome(party, worker.make.kind, agreement.task.outputs, ended, prepared, traffic, stored)
    told = build_report(
        [result],
        [],
        agreement.task.outputs,
        settings=msgspec.to_builtins(terms),
        environment=describe(),
        seed=terms.seed,
        transfer_set_bytes=terms.transfer_bytes,
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seconds=0.0,
        task=agreement.task.name,
    )
    write_report(told, report)
    first = next(iter(told.participants))
    metric = "nmae" if "nmae" in first.metrics["federated"] else next(iter(first.metrics["federated"]))
    errors = {str(way): first.metrics[way][metric] for way in ("floor", "local", "federated") if way in first.metrics}
    return Result("finished", "", model, report, errors)
