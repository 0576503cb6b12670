"""The examples of services: what they start is there, and what they may do is little."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from fedstill.cli.coordinator import coordinator
from fedstill.cli.participant import participant

UNITS = Path(__file__).parents[2] / "examples" / "deploy"


@pytest.fixture(scope="module", params=["participant", "coordinator"])
def file(request: pytest.FixtureRequest) -> Path:
    return UNITS / f"fedstill-{request.param}.service"


@pytest.fixture(scope="module")
def unit(file: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(file.read_text(encoding="utf-8"))
    return parser


def test_it_starts_a_command_that_there_is(unit: configparser.ConfigParser) -> None:
    program, group, name, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "fedstill"
    given = {"participant": participant, "coordinator": coordinator}[group].commands[name]
    told = given.make_context(name, arguments).params
    assert str(told["folder"]).startswith("%S/fedstill/")
    if group == "participant":
        assert (told["stay"], told["accept"]) == (True, False)  # a service accepts nothing by itself


def test_it_may_do_little(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    for key in (
        *("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectKernelModules"),
        *("ProtectKernelTunables", "ProtectKernelLogs", "ProtectControlGroups", "ProtectClock", "RestrictNamespaces"),
        *("RestrictSUIDSGID", "LockPersonality", "RestrictRealtime"),
    ):
        assert service[key] == "yes", key
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["User"] not in ("", "root")
    assert set(service["RestrictAddressFamilies"].split()) == {"AF_INET", "AF_INET6", "AF_UNIX"}
    assert "ReadWritePaths" not in service


def test_its_key_is_for_its_user_alone(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert (service["StateDirectory"], service["StateDirectoryMode"], service["UMask"]) == ("fedstill", "0700", "0077")


def test_it_comes_back_after_a_fault_and_not_too_often(unit: configparser.ConfigParser) -> None:
    assert unit["Service"]["Restart"] == "on-failure"
    assert int(unit["Service"]["RestartSec"]) >= 10
    assert unit["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_it(file: Path) -> None:
    command = ["systemd-analyze", "verify", "--man=no", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if file.name in line and "is not executable" not in line]
    assert complaints == []
