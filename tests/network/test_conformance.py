"""One federation file gives the same models, byte for byte, whichever way the letters take."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from federations import NAMES, contents, describe, run_between_machines, run_here, write_data

from fedstill.agent.journal import Journal
from fedstill.service.audit import audit
from fedstill.service.consortium import Consortium
from fedstill.testing.broker import MOSQUITTO


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", params=["grouped", "fedavg", "sketched"])
def strategy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def both(strategy: str, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Models of a run here, and the folder of the same run over HTTPS."""
    file = describe(data, strategy)
    out = tmp_path_factory.mktemp(strategy)
    results = run_between_machines(file, out / "network")
    assert {result.ended for result in results.values()} == {"finished"}
    return run_here(file, out / "here"), out / "network"


def test_models_are_the_same_over_https(both: tuple[Path, Path]) -> None:
    here, network = both
    for name in NAMES:
        assert contents(network / name / "models" / "1") == contents(here / name)


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_models_are_the_same_over_mqtt(strategy: str, data: Path, both: tuple[Path, Path], tmp_path: Path) -> None:
    results = run_between_machines(describe(data, strategy), tmp_path, mqtt=True)
    assert {result.ended for result in results.values()} == {"finished"}
    for name in NAMES:
        assert contents(tmp_path / name / "models" / "1") == contents(both[0] / name)


def test_models_are_the_same_from_a_pool(strategy: str, data: Path, both: tuple[Path, Path], tmp_path: Path) -> None:
    if strategy != "grouped":
        pytest.skip("starting processes takes long; one algorithm stands for all")
    pooled = run_here(msgspec.structs.replace(describe(data, strategy), workers=2), tmp_path)
    assert contents(pooled) == contents(both[0])


def test_the_auditor_finds_nothing_and_the_journal_names_what_left(both: tuple[Path, Path]) -> None:
    network = both[1]
    consortium = Consortium(network / "consortium")
    signer = consortium.identity.certificate
    assert signer is not None
    found = audit(consortium.store, consortium.blobs, signer)
    assert found.faults == ()
    received = [record for record in consortium.store.records(1) if record.kind == "received"]
    left = 0
    for name in NAMES:
        digest = consortium.store.runs()[0].terms_digest
        sent = Journal(network / name / "journal.db", digest).sent()
        assert all(one.posted_at is not None and one.why == "" for one in sent)
        left += len(sent)
    assert len(received) == left
    consortium.close()


def test_the_report_is_about_the_participant_alone(both: tuple[Path, Path]) -> None:
    report = json.loads((both[1] / "alpha" / "report" / "1" / "report.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in report["participants"]] == ["alpha"]
