"""The example of a service: what it starts is there, and what it may do is little."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from fedstill.cli.participant import participant

UNIT = Path(__file__).parents[2] / "examples" / "deploy" / "fedstill-participant.service"


@pytest.fixture(scope="module")
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return parser


def test_it_starts_a_command_that_there_is(unit: configparser.ConfigParser) -> None:
    program, group, name, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "fedstill"
    assert group == "participant"
    given = participant.commands[name].make_context(name, arguments).params
    assert (given["stay"], given["accept"]) == (True, False)  # a service accepts nothing by itself
    assert given["folder"] == Path("%S/fedstill/plant")


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
def test_systemd_understands_it() -> None:
    command = ["systemd-analyze", "verify", "--man=no", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line and "is not executable" not in line]
    assert complaints == []
