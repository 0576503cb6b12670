"""Mistakes of a participant's owner: each ends with exit code 2 and one line that says what, where, and what to do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from offices import Office, certified, fedstill, signer

from fedstill.agent.home import Home
from fedstill.errors import ConfigError
from fedstill.learners.base import BaseLearner
from fedstill.transports.authority import Authority
from fedstill.transports.https import HttpsLink
from fedstill.transports.identity import Identity
from fedstill.transports.roles import Role

Change = Callable[[Office, Path], object]


def toml(old: str, new: str) -> Change:
    """Change participant.toml where it says `old`."""

    def change(office: Office, home: Path) -> None:
        text = (home / "participant.toml").read_text()
        assert old in text
        (home / "participant.toml").write_text(text.replace(old, new, 1))

    return change


def rule(line: str) -> Change:
    """Write a line below [work]."""
    return lambda office, home: toml("[participant]", f"[work]\n{line}\n\n[participant]")(office, home)


def file(name: str, content: str | bytes) -> Change:
    return lambda office, home: (home / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def gone(name: str) -> Change:
    return lambda office, home: (home / name).unlink()


def nothing(office: Office, home: Path) -> None:
    """Leave everything as it is."""


def accepted(office: Office, home: Path) -> None:
    (home / "terms.json").write_bytes(office.terms.to_bytes())


def both(*changes: Change) -> Change:
    def change(office: Office, home: Path) -> None:
        for one in changes:
            one(office, home)

    return change


def foreign(name: str) -> Change:
    """Put a certificate of another consortium there."""

    def change(office: Office, home: Path) -> None:
        authority = Authority.create("foreign", signer().starts)
        role = Role.COORDINATOR if name == "coordinator.pem" else Role.PARTICIPANT
        who = office.coordinator if role is Role.COORDINATOR else office.ann
        named = "coordinator" if role is Role.COORDINATOR else "ann"
        (home / name).write_bytes(authority.certify(who.request_pem(named), named, role, signer().starts, 365))

    return change


RUN = ("run",)
STATUS = ("status",)

# What the owner did: (what was changed, the command, what the line must say).
MISTAKES: dict[str, tuple[Change, tuple[str, ...], tuple[str, ...]]] = {
    # the folder
    "no folder": (nothing, ("run", "{home}/nowhere"), ("nowhere", "participant.toml: there is no such file", "join")),
    "a file as the folder": (nothing, ("status", "{home}/data.csv"), ("data.csv", "cannot be read")),
    "another folder": (nothing, ("status", "{home}/.."), ("participant.toml: there is no such file", "join")),
    "no folder to approve in": (nothing, ("approve", "{home}/nowhere"), ("there is no such file",)),
    "no folder to list": (nothing, ("log", "{home}/nowhere"), ("there is no such file",)),
    # participant.toml
    "no settings": (gone("participant.toml"), RUN, ("participant.toml: there is no such file", "join")),
    "no TOML": (toml("[participant]", "[participant"), RUN, ("participant.toml: not TOML", "Mend")),
    "a key at the top": (toml("address =", "adress ="), RUN, ("participant.toml: ", "'adress'", "'address'?")),
    "a table that is not known": (toml("[participant]", "[wrok]\n[participant]"), RUN, ("'wrok'", "'work'?")),
    "no address": (toml("address =", "# address ="), RUN, ("the key 'address' is missing",)),
    "an address that is none": (toml("https://", "http://"), RUN, ("is not the address of a coordinator", "https://")),
    "a key of the participant": (
        toml("learner =", "lerner ="),
        RUN,
        ("participant.toml, participant: there is no key 'lerner'", "'learner'?"),
    ),
    "a table as text": (
        toml('name = "ann"', "name = 3"),
        RUN,
        ("participant, name: expected `str`",),
    ),
    # its rules
    "a rule": (rule("approval = 'ask'"), RUN, ("participant.toml, work: there is no key 'approval'", "'approve'?")),
    "approve": (rule("approve = 'asks'"), RUN, ("work, approve: 'asks' is no choice", "'ask'?")),
    "accept": (rule("accept = 'all'"), RUN, ("work, accept: 'all' is no choice", "same")),
    "hours": (rule("hours = ['18-6']"), RUN, ("work, hours: '18-6' is no span of hours", '"18:00-06:00"')),
    "hours that are text": (rule("hours = '18:00-06:00'"), RUN, ("work, hours: expected `array`",)),
    "hours that are numbers": (rule("hours = [18]"), STATUS, ("work, hours[0]: expected `str`",)),
    "no threads": (rule("threads = 0"), RUN, ("work, threads: expected `int` >= 1",)),
    "half a thread": (rule("threads = 1.5"), RUN, ("work, threads: expected `int`",)),
    "no memory": (rule("memory_mb = 0"), RUN, ("work, memory_mb: expected `int` >= 1",)),
    "memory in words": (rule("memory_mb = '2 GB'"), RUN, ("work, memory_mb: expected `int | null`",)),
    "too little memory": (rule("memory_mb = 1"), RUN, ("work, memory_mb: the participant holds ", "Allow more")),
    "no bandwidth": (rule("bandwidth_kb_per_s = 0"), RUN, ("work, bandwidth_kb_per_s: expected `float` > 0",)),
    "all bandwidth": (rule("bandwidth_kb_per_s = inf"), RUN, ("bandwidth_kb_per_s: expected `float` <= 1000000000",)),
    "rules that are no table": (toml("[participant]", "[[work]]\n[participant]"), RUN, ("work: expected `object`",)),
    # keys and certificates
    "no key": (gone("key.pem"), RUN, ("key.pem: cannot be read", "join")),
    "a damaged key": (
        file("key.pem", b"-----BEGIN PRIVATE KEY-----\nnonsense\n"),
        RUN,
        ("key.pem: it cannot be read",),
    ),
    "another key": (
        lambda office, home: (home / "key.pem").write_bytes(office.other.key_pem),
        RUN,
        ("key.pem: the certificate of 'ann' is about another key",),
    ),
    "a key for TLS": (
        lambda office, home: (home / "key.pem").write_bytes(Identity.create("p256").key_pem),
        RUN,
        ("key.pem: the certificate of 'ann' is about another key",),
    ),
    "the key as the certificate": (
        lambda office, home: (home / "certificate.pem").write_bytes((home / "key.pem").read_bytes()),
        STATUS,
        ("certificate.pem: it cannot be read",),
    ),
    "no certificate": (gone("certificate.pem"), STATUS, ("certificate.pem: cannot be read", "join")),
    "half a certificate": (file("certificate.pem", b"-----BEGIN"), STATUS, ("certificate.pem: it cannot be read",)),
    "a certificate of others": (foreign("certificate.pem"), STATUS, ("certificate.pem: this is no participant's",)),
    "a coordinator of others": (foreign("coordinator.pem"), RUN, ("coordinator.pem: this is no coordinator's",)),
    "a participant as the coordinator": (
        lambda office, home: (home / "coordinator.pem").write_bytes(certified(office.ann, "ann")),
        RUN,
        ("coordinator.pem: this is no coordinator's certificate",),
    ),
    "no authority": (gone("authority.pem"), STATUS, ("authority.pem: cannot be read",)),
    "a damaged authority": (file("authority.pem", "x"), STATUS, ("it cannot be read",)),
    "another name": (toml('name = "ann"', 'name = "anna"'), STATUS, ("is about 'ann', and", "'anna'", 'name = "ann"')),
    # terms and journal
    "damaged terms": (file("terms.json", "{"), STATUS, ("terms.json: not terms of a federation", "accept them again")),
    "a damaged journal": (both(accepted, file("journal.db", "x" * 4000)), STATUS, ("journal.db: the journal cannot",)),
    "a damaged journal to list": (both(accepted, file("journal.db", "x" * 4000)), ("log",), ("journal.db: ",)),
    # approve
    "nothing accepted, nothing waits": (nothing, ("approve",), ("no answer waits", "participant status")),
    "nothing waits": (accepted, ("approve",), ("no answer waits", "participant status")),
    "another one waits": (accepted, ("approve", "--number", "7"), ("no answer 7 waits",)),
    "nothing to look at": (accepted, ("approve", "--look"), ("no answer waits",)),
    "to look and refuse": (accepted, ("approve", "--look", "--refuse", "no"), ("--look: to look and to refuse",)),
    "no reason": (accepted, ("approve", "--refuse", " "), ("--refuse: this is no reason", "1 to 200 characters")),
    "a reason of lines": (accepted, ("approve", "--refuse", "a\nb"), ("--refuse: this is no reason",)),
    "a long reason": (accepted, ("approve", "--refuse", "no" * 101), ("--refuse: this is no reason",)),
    "a number in words": (accepted, ("approve", "--number", "first"), ("'first' is not a valid integer", "--help")),
    # join
    "no invite": (nothing, ("join", "none.invite", "--data", "{home}/data.csv"), ("none.invite: cannot be read",)),
    "not an invite": (nothing, ("join", "{home}/data.csv", "--data", "{home}/data.csv"), ("this is no invite",)),
    "no data": (nothing, ("join", "x.invite", "--data", "{home}/none.csv"), ("none.csv: there is no such file",)),
    "a setting without value": (
        nothing,
        ("join", "x.invite", "--data", "{home}/data.csv", "--set", "site"),
        ("--set: 'site' is no change", "key=value"),
    ),
    "a setting into text": (
        nothing,
        ("join", "x.invite", "--data", "{home}/data.csv", "--set", "learner.trees=3"),
        ("--set: 'learner.trees' leads nowhere",),
    ),
    "no option": (nothing, ("run", "{home}", "--acept"), ("No such option", "--accept")),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_mistake_is_one_line_and_exit_code_2(mistake: str, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    change, words, parts = MISTAKES[mistake]

    def trained(*_: object) -> None:
        raise AssertionError("it was found only after something had been trained or asked")

    home = office.home().folder
    secrets = (home / "key.pem").read_text().splitlines()[1:-1]
    change(office, home)
    monkeypatch.setattr(BaseLearner, "fit", trained)
    monkeypatch.setattr(HttpsLink, "terms", trained)
    monkeypatch.setattr("fedstill.cli.logs.logging.basicConfig", lambda **_: None)
    command, *rest = (word.format(home=home) for word in words)
    if "{home}" not in " ".join(words) and command != "join":
        rest = [str(home), *rest]
    told = fedstill("participant", command, *rest)
    assert told.code == 2
    assert told.out == ""
    assert len(told.err.splitlines()) == 1, told.err
    assert told.err.startswith("error: ")
    assert "Traceback" not in told.err
    for part in parts:
        assert part in told.err
    assert not any(secret in told.err for secret in secrets)
    assert not (home / "journal.db-wal").exists() or mistake.startswith("a damaged journal")


def test_two_processes_do_not_take_part_from_one_folder(office: Office) -> None:
    home = office.home()
    with home.held(), pytest.raises(ConfigError, match="another process takes part"), Home(home.folder).held():
        pass
    with Home(home.folder).held():  # and it is free again
        pass


def test_the_lock_of_a_process_that_was_killed_is_free(office: Office) -> None:
    home = office.home()
    (home.folder / "lock").write_text("")
    with home.held():
        pass


def test_before_anything_else_status_says_so(office: Office) -> None:
    told = fedstill("participant", "status", office.home().folder)
    assert told.code == 0, told.err
    assert "participant: ann" in told.out
    assert "terms: none accepted yet" in told.out
    assert "trains again" not in told.out


def test_status_looks_at_hours_and_writes_nothing(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    home = office.home(work={"hours": ["12:00-12:01"]})
    accepted(office, home.folder)
    before = set(os.listdir(home.folder))  # noqa: PTH208
    noon = time.mktime((2026, 7, 1, 11, 0, 0, 0, 0, -1))
    monkeypatch.setattr("fedstill.cli.participating.time.time", lambda: noon)
    told = fedstill("participant", "status", home.folder)
    assert told.code == 0, told.err
    assert "trains again: 2026-07-01 12:00:00" in told.out
    assert "ended: not yet begun" in told.out
    assert set(os.listdir(home.folder)) == before  # noqa: PTH208
