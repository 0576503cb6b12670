"""Observers, auditors and operators at their own machines: the command line, over HTTPS, against a coordinator."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import federations
import pytest

from fedstill.cli.main import main
from fedstill.service.consortium import Consortium
from fedstill.service.founding import found
from fedstill.transports.roles import Role

ROLES = {"olga": Role.OPERATOR, "ada": Role.AUDITOR, "otto": Role.OBSERVER}
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("visitors")


@pytest.fixture(scope="module")
def consortium(place: Path) -> Iterator[Consortium]:
    """It serves, and its people have joined: one in each role, and two of three participants."""
    file = federations.describe(federations.write_data(place), "grouped")
    found(place / "small", file, place, f"https://127.0.0.1:{federations.free_port()}").close()
    with federations.served(place / "small") as consortium:
        for name, role in ROLES.items():
            main(["coordinator", "invite", str(place / "small"), name, "--role", str(role)])
            main(["join", str(place / "small" / "invites" / f"{name}.invite"), "--folder", str(place / name)])
        for name in ("alpha", "beta"):
            join_participant(consortium.invite(name, 1), place)
        yield consortium


def join_participant(invite: Path, place: Path) -> None:
    data = ["--data", str(place / "load.csv"), "--set", "timezone=Europe/Berlin"]
    main(["participant", "join", str(invite), "--folder", str(place / invite.stem), *data])


@pytest.fixture
def run(
    consortium: Consortium, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Exit code, output and errors of a command, where everybody's folder is."""
    monkeypatch.chdir(place)

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = 0
        try:
            main(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize("name", ROLES)
def test_everybody_can_see_how_far_the_run_is(run: Command, name: str) -> None:
    code, said, _ = run("coordinator", "status", name)
    assert code == 0
    assert said.startswith("small, run 1: waiting, round 0 of 2\n")
    assert "gamma: not invited" in said
    code, said, _ = run("coordinator", "status", name, "--json")
    assert json.loads(said)["parties"]["alpha"]["status"] == "joined"


COMMANDS = {
    ("audit", "export", "{}", "no.zip"): "auditor",
    ("coordinator", "invite", "{}", "gamma"): "operator",
    ("coordinator", "revoke", "{}", "gamma"): "operator",
}


@pytest.mark.parametrize(
    ("words", "name"), [(words, name) for words, role in COMMANDS.items() for name in ROLES if ROLES[name] != role]
)
def test_whoever_may_not_is_told_why(run: Command, place: Path, words: tuple[str, ...], name: str) -> None:
    code, said, errors = run(*(word.format(name) for word in words))
    assert (code, said) == (2, "")
    reason = f"coordinator (403): not for the role '{ROLES[name]}'. Ask as one of: {COMMANDS[words]}"
    assert errors == f"error: {reason}\n"
    assert not (place / "no.zip").exists()
    assert not (place / name / "invites").exists() or name == "olga"


def test_an_auditor_fetches_what_verifies_without_the_coordinator(run: Command, place: Path) -> None:
    code, said, _ = run("audit", "export", "ada", "audit.zip")
    assert code == 0
    if sys.platform != "win32":
        assert stat.S_IMODE((place / "audit.zip").stat().st_mode) == 0o600
    code, said, _ = run("audit", "verify", "audit.zip", "--json")
    told = json.loads(said)
    assert (code, told["faults"]) == (0, [])
    assert told["events"] >= 5  # three visitors and two participants have joined


def test_an_operator_lets_in_and_out_from_afar(run: Command, consortium: Consortium, place: Path) -> None:
    code, said, _ = run("coordinator", "invite", "olga", "gamma", "--days", "2")
    invite = Path("olga/invites/gamma.invite")
    assert code == 0
    assert said.startswith(f"{invite}: give it to gamma")
    if sys.platform != "win32":
        assert stat.S_IMODE(invite.stat().st_mode) == 0o600
    assert not (consortium.folder / "invites" / "gamma.invite").exists()
    join_participant(invite, place)  # the last one to come: the run begins
    assert run("coordinator", "status", "olga")[1].startswith("small, run 1: open, round 1 of 2\n")
    code, _, _ = run("coordinator", "invite", "olga", "eve", "--role", "observer")
    assert code == 0
    code, said, _ = run("coordinator", "revoke", "olga", "eve")
    assert (code, said) == (0, "eve is let in no more, within two seconds.\n")
    records = [one for one in consortium.store.records() if one.kind in ("invited", "revoked")]
    done = [(one.kind, said["party"]) for one in records if (said := json.loads(one.body))["by"] == "olga"]
    assert done == [("invited", "gamma"), ("invited", "eve"), ("revoked", "eve")]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("invite", "olga", "zeta"), "'zeta' is not named in the federation file. Named there are: alpha, beta, gamma"),
        (("invite", "olga", "alpha", "--role", "observer"), "'alpha' takes part itself"),
        (("invite", "olga", "kim", "--role", "operator"), "nobody can invite an operator from afar. Do it on the"),
        (("revoke", "olga", "ada"), "nobody can revoke an auditor from afar"),
        (("revoke", "olga", "zeta"), "there is no party 'zeta'"),
        (("invite", "olga", "../x", "--role", "observer"), "cannot be the name of a file"),
        (("invite", "olga", "alpha", "--mqtt"), "no broker is set"),
        (("invite", "olga", "alpha", "--days", "1000"), "not what this takes"),
    ],
)
def test_what_an_operator_cannot_do_is_one_line(run: Command, words: tuple[str, ...], says: str) -> None:
    code, said, errors = run("coordinator", *words)
    assert (code, said) == (2, "")
    assert says in errors
    assert len(errors.splitlines()) == 1


def test_the_doctor_looks_at_visitors_too(run: Command, place: Path) -> None:
    code, said, _ = run("doctor", "otto")
    assert code == 0
    assert "ok   settings: otto, observer, at https://127.0.0.1:" in said
    assert "ok   coordinator: reached; run 1" in said
    (place / "otto" / "coordinator.pem").rename(place / "kept.pem")
    code, said, _ = run("doctor", "otto")
    (place / "kept.pem").rename(place / "otto" / "coordinator.pem")
    assert code == 2
    assert "BAD  key and certificates: " in said


def test_who_is_revoked_learns_it(run: Command, consortium: Consortium) -> None:
    consortium.invite("mallory", 1, Role.OBSERVER)
    code, said, _ = run("join", "small/invites/mallory.invite")
    assert code == 0
    assert said.endswith("You are an observer:\n  fedstill coordinator status mallory\n")
    consortium.registry.revoke("mallory")
    code, _, errors = run("coordinator", "status", "mallory")
    assert code == 2
    assert "nobody who has joined, or was revoked" in errors
