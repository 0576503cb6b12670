"""The operator's and auditor's commands: mistakes are one line and exit code 2; logs are JSON lines."""

from __future__ import annotations

import json
import logging
import socket
from pathlib import Path

import pytest

from fedstill.cli import output
from fedstill.cli.logs import JsonLines
from fedstill.cli.main import main
from fedstill.energy.synthetic import synthetic

FILE = """
name = "duo"
[task]
test = ["2016-02-01", ""]
[data]
file = "load.csv"
timezone = "Europe/Berlin"
[transfer]
site = "{public}"
items = 20
[[participants]]
name = "a"
[[participants]]
name = "b"
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("federation")
    frame = synthetic(3, 40)
    frame.to_csv(folder / "load.csv", index=False)
    text = FILE.format(public=frame["unique_id"].iloc[-1])
    (folder / "FEDERATION.toml").write_text(text, encoding="utf-8")
    return folder / "FEDERATION.toml"


@pytest.fixture
def consortium(described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"https://127.0.0.1:{listener.getsockname()[1]}"
    code, said, _ = run(capsys, "coordinator", "init", tmp_path / "duo", described, "--address", address)
    assert code == 0
    assert "fedstill coordinator invite" in said
    return tmp_path / "duo"


def test_the_usual_way(consortium: Path, described: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = run(capsys, "coordinator", "invite", consortium, "a", "--days", 2)
    assert code == 0
    assert "a.invite" in said
    code, said, _ = run(capsys, "coordinator", "status", consortium, "--json")
    told = json.loads(said)
    assert (told["phase"], told["parties"]["a"]["status"], told["parties"]["b"]["status"]) == (
        "waiting",
        "invited",
        "not invited",
    )
    code, said, _ = run(capsys, "coordinator", "status", consortium)
    assert "not served now" in said
    code, said, _ = run(capsys, "coordinator", "plan", consortium, described, "--set", "rounds=3")
    assert "Run 2 is planned" in said
    code, said, _ = run(capsys, "audit", "verify", consortium, "--json")
    assert json.loads(said)["faults"] == []


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("coordinator", "serve", "nowhere"), "there is no such file. Run `fedstill coordinator init` first"),
        (("coordinator", "status", "nowhere"), "there is no such file"),
        (("coordinator", "invite", "{duo}", "c"), "'c' is not named in the federation file. Named there are: a, b"),
        (("coordinator", "revoke", "{duo}", "c"), "there is no party 'c'"),
        (("coordinator", "init", "{duo}", "{file}", "--address", "https://x:1"), "this folder is not empty"),
        (("coordinator", "init", "new", "{file}", "--address", "x"), "'x' is no address"),
        (("coordinator", "init", "new", "none.toml", "--address", "https://x:1"), "there is no such file"),
        (("coordinator", "invite", "{duo}", "a", "--days", "0"), "Invalid value for '--days'"),
        (("coordinator", "backup", "nowhere", "x.zip"), "there is no such file"),
        (("audit", "verify", "{file}"), "this is no exported audit"),
        (("audit", "verify", "nowhere"), "this is no exported audit"),
    ],
)
def test_mistakes_are_one_line(
    consortium: Path, described: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], says: str
) -> None:
    words = [word.format(duo=consortium, file=described) for word in command]
    code, said, errors = run(capsys, *words)
    assert code == 2
    assert said == ""
    assert says in errors
    assert len(errors.splitlines()) == 1


def test_a_settings_file_that_is_wrong_is_named(consortium: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = consortium / "consortium.toml"
    before = path.read_text(encoding="utf-8")
    for line, says in (
        ("prot = 1\n", "there is no key 'prot'"),
        ("[limits]\nburst = 0\n", "burst = 0 lets nothing through"),
        ("[limits]\nburst = \n", "not TOML"),
    ):
        path.write_text(before + line, encoding="utf-8")
        code, _, errors = run(capsys, "coordinator", "status", consortium)
        assert (code, len(errors.splitlines())) == (2, 1)
        assert says in errors


def test_a_taken_port_is_named(consortium: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (consortium / "consortium.toml").read_text(encoding="utf-8")
    port = int(text.rpartition(":")[2].split('"')[0])
    (consortium / "consortium.toml").write_text(f'{text}listen = "127.0.0.1"\n', encoding="utf-8")
    with socket.create_server(("127.0.0.1", port)):
        code, _, errors = run(capsys, "coordinator", "serve", consortium, "--log-level", "error")
    assert code == 2
    assert f"127.0.0.1:{port}: cannot listen" in errors


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(output, "find_spec", lambda name: None if name == "aiohttp" else object())
    code, _, errors = run(capsys, "coordinator", "status", "x")
    assert code == 2
    assert errors == 'error: a federation between machines needs aiohttp. Install it: pip install "fedstill[network]"\n'


def test_logs_are_json_lines() -> None:
    record = logging.makeLogRecord(
        {"name": "fedstill.service.desk", "levelname": "WARNING", "msg": "letter refused", "created": 0.0}
    )
    record.party, record.why = "a", "line\nbreak"
    line = JsonLines().format(record)
    assert len(line.splitlines()) == 1
    assert json.loads(line) == {
        "at": "1970-01-01T00:00:00.000+00:00",
        "level": "warning",
        "from": "fedstill.service.desk",
        "what": "letter refused",
        "party": "a",
        "why": "line\nbreak",
    }
