"""What an enterprise does with its folder: join a federation, accept its terms, take part."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from fedstill.agent.home import Home
from fedstill.agent.journal import Journal
from fedstill.agent.loop import Patience, work
from fedstill.agent.worker import Contract, Worker
from fedstill.agreement import Terms, read_agreement, read_terms
from fedstill.config import ParticipantTable
from fedstill.environment import describe
from fedstill.errors import ConfigError, WireError
from fedstill.evaluation.report import write_report
from fedstill.evaluation.summary import build_report
from fedstill.judging import conclude, outcome, store
from fedstill.service.invites import read_invite
from fedstill.transports.calls import Traffic
from fedstill.transports.https import HttpsLink, enrol
from fedstill.transports.identity import Certificate, Identity
from fedstill.transports.letters import digest_of
from fedstill.transports.links import Link


@dataclass(frozen=True)
class Result:
    """How a run has ended for a participant: "finished" or "failed", why, and where its model and report are."""

    ended: str
    why: str
    model: Path | None = None
    report: Path | None = None
    errors: dict[str, float | None] | None = None


async def join(invite_path: Path, folder: Path | None, table: dict[str, Any]) -> Home:
    """Become a party with an invite, and write the participant's folder.

    May be repeated, where the answer got lost: the key that was made the first time is used again.

    Parameters
    ----------
    invite_path:
        From the operator.
    folder:
        Where its key, settings and models will be; None: a folder with its name, here.
    table:
        Its data and learner, as in a `[[participants]]` table of a federation file, without its name.

    Raises
    ------
    ConfigError, LinkRefused, LinkDown, WireError
        Where that cannot be, with what to do.
    """
    invite = read_invite(invite_path)
    home = Home(folder or Path(invite.name))
    if (home.folder / "certificate.pem").exists():
        raise ConfigError(
            "a participant lives here already", where=str(home.folder), remedy="Name another folder with --folder"
        )
    participant = {"name": invite.name, **table}
    msgspec.convert(participant, ParticipantTable)
    key = home.folder / "key.pem"
    identity = Identity.from_pem(key.read_bytes()) if key.exists() else Identity.create()
    home.write("key.pem", identity.key_pem, private=True)
    request, authority = identity.request_pem(invite.name), invite.authority.encode()
    certificate, _ = await enrol(invite.address, invite.token, request, authority)
    mine = Certificate.from_pem(certificate)
    if not mine.issued_by(authority) or mine.name != invite.name:
        raise WireError("the certificate that came is not of this consortium", where=invite.address)
    settings = {"address": invite.address, "participant": participant}
    home.write("participant.toml", tomli_w.dumps(settings).encode())
    home.write("authority.pem", authority)
    home.write("coordinator.pem", invite.coordinator.encode())
    home.write("certificate.pem", certificate)
    return home


def link_of(home: Home) -> HttpsLink:
    """The way to its coordinator."""
    return HttpsLink(
        home.settings.address,
        certificate=home.folder / "certificate.pem",
        key=home.folder / "key.pem",
        authority_pem=home.authority,
    )


async def offered(home: Home, link: Link) -> tuple[Contract, bytes]:
    """What the participant would stand on, and the terms as the coordinator offers them now.

    Raises
    ------
    LinkDown, LinkRefused, WireError
        Where they cannot be had.
    ConfigError
        Where this participant is not one of theirs.
    """
    data = await link.terms()
    terms = read_terms(data)
    name = home.settings.participant.name
    if name not in terms.parties:
        raise ConfigError(f"'{name}' does not take part", where="terms", remedy="Ask the operator")
    blobs = home.blobs
    if not blobs.has(terms.transfer):
        blobs.put(await link.fetch(terms.transfer, terms.transfer_bytes))
    agreement = read_agreement(terms, blobs.get(terms.transfer))
    return Contract(terms, digest_of(data), agreement, home.identity, home.coordinator), data


async def agreed(home: Home, link: Link, *, accept: bool) -> Contract:
    """The same, where its owner has accepted these terms, or does so now. Raises ConfigError where not."""
    contract, data = await offered(home, link)
    if not accept and home.accepted != data:
        raise ConfigError(
            "the coordinator offers terms that have not been accepted here",
            where=str(home.folder),
            remedy=f"Read them: fedstill participant terms {home.folder}; then run with --accept",
        )
    if accept:
        home.write("terms.json", data)
    return contract


def worker_of(home: Home, contract: Contract) -> Worker:
    """The participant at work. Raises ConfigError, DataError, LearnerError, MissingExtra."""
    journal = Journal(home.journal_path, contract.digest)
    return Worker(contract, home.member(contract.agreement.task), journal, home.blobs, time.time)


async def take_part(
    home: Home,
    *,
    accept: bool = False,
    patience: Patience | None = None,
    observe: Callable[[str], None] = lambda _: None,
) -> Result:
    """Take part in the run that the coordinator serves, to its end. Raises what the parts above raise."""
    link = link_of(home)
    try:
        contract = await agreed(home, link, accept=accept)
        worker = worker_of(home, contract)
        observe(f"learns from {len(worker.prepared.site.rows)} rows; waiting for the coordinator")
        await work(worker, link, clock=time.time, patience=patience or Patience(), observe=observe)
    finally:
        await link.close()
    if worker.ended == "failed":
        return Result("failed", worker.why)
    return kept(home, contract.terms, worker)


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
