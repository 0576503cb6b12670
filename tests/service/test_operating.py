"""What an operator does besides serving: found, invite, revoke, plan, renew, back up, restore, audit, doctor."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fedstill import config
from fedstill.cli.main import main
from fedstill.energy.synthetic import synthetic
from fedstill.errors import ConfigError, DataError, LinkRefused
from fedstill.service.backup import backup, restore
from fedstill.service.checks import check_consortium
from fedstill.service.clerk import Bell
from fedstill.service.consortium import Consortium, checked_address
from fedstill.service.export import export, verify
from fedstill.service.founding import found, plan
from fedstill.service.invites import read_invite
from fedstill.service.serving import open_desk
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.roles import Role

ADDRESS = "https://127.0.0.1:18999"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> config.FederationFile:
    folder = tmp_path_factory.mktemp("file")
    frame = synthetic(3, 40)
    frame.to_csv(folder / "load.csv", index=False)
    names = sorted(frame["unique_id"].unique())
    return config.parse(
        {
            "name": "trio",
            "task": {"levels": [0.5], "test": ["2016-02-01", ""]},
            "data": {"file": str(folder / "load.csv"), "timezone": "Europe/Berlin"},
            "transfer": {"site": names[2], "items": 50},
            "participants": [{"name": "a"}, {"name": "b"}],
        }
    )


@pytest.fixture
def consortium(file: config.FederationFile, tmp_path: Path) -> Iterator[Consortium]:
    founded = found(tmp_path / "trio", file, tmp_path, ADDRESS)
    yield founded
    founded.close()


def joined(consortium: Consortium, *names: str) -> None:
    for name in names:
        invite = read_invite(consortium.invite(name, 1))
        consortium.registry.enrol(invite.token, Identity.create().request_pem(name))


def test_keys_are_private_from_the_start(consortium: Consortium) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in consortium.folder.glob("*.key")}
    assert modes == {"authority.key": 0o600, "coordinator.key": 0o600, "server.key": 0o600}
    assert stat.S_IMODE(consortium.invite("a", 1).stat().st_mode) == 0o600


def test_what_is_wrong_shows_before_anything_is_made(file: config.FederationFile, tmp_path: Path) -> None:
    for address in ("http://x:1", "https://x", "https://x:99999", "x:8443", "https://x:1/path", "https://:1"):
        with pytest.raises(ConfigError, match="is no address"):
            found(tmp_path / "new", file, tmp_path, address)
    pooled = config.parse({**_raw(file), "strategy": {"name": "pooled"}})
    with pytest.raises(ConfigError, match="reference for comparison"):
        found(tmp_path / "new", pooled, tmp_path, ADDRESS)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(ConfigError, match="not empty"):
        found(tmp_path / "taken", file, tmp_path, ADDRESS)
    assert not (tmp_path / "new").exists()
    assert checked_address("https://[::1]:8443") == "::1"


def _raw(file: config.FederationFile) -> dict[str, Any]:
    import msgspec

    raw: dict[str, Any] = msgspec.to_builtins(file)
    return raw


def test_an_invite_lets_in_once_and_only_who_is_named(consortium: Consortium) -> None:
    with pytest.raises(ConfigError, match="'c' is not named in the federation file"):
        consortium.invite("c", 1)
    invite = read_invite(consortium.invite("a", 1))
    first, second = Identity.create(), Identity.create()
    consortium.registry.enrol(invite.token, first.request_pem("a"))
    pem, _ = consortium.registry.enrol(invite.token, first.request_pem("a"))  # the answer had got lost
    with pytest.raises(LinkRefused, match="has been used"):
        consortium.registry.enrol(invite.token, second.request_pem("a"))
    certificate = Certificate.from_pem(pem)
    assert consortium.registry.who(certificate.fingerprint) == ("a", Role.PARTICIPANT)
    consortium.registry.revoke("a")
    assert consortium.registry.who(certificate.fingerprint) is None
    with pytest.raises(LinkRefused, match="is not a party"):
        consortium.registry.renew("a", first.request_pem("a"))


def test_renewal_keeps_the_key(consortium: Consortium) -> None:
    identity = Identity.create()
    consortium.registry.enrol(read_invite(consortium.invite("a", 1)).token, identity.request_pem("a"))
    renewed = Certificate.from_pem(consortium.registry.renew("a", identity.request_pem("a")))
    assert consortium.registry.who(renewed.fingerprint) == ("a", Role.PARTICIPANT)
    with pytest.raises(LinkRefused, match="another key"):
        consortium.registry.renew("a", Identity.create().request_pem("a"))


def test_the_operators_own_certificates_are_renewed(consortium: Consortium) -> None:
    before = (consortium.folder / "server.pem").read_bytes()
    consortium.renew()
    after = (consortium.folder / "server.pem").read_bytes()
    assert before != after
    assert Certificate.from_pem(after).valid(datetime.now(UTC))


def test_the_run_begins_when_all_have_joined(consortium: Consortium) -> None:
    assert consortium.store.lead("me", 0.0, 1.0)
    desk = open_desk(consortium, Bell())
    joined(consortium, "a")
    desk.tick()
    assert desk.status()["phase"] == "waiting"
    joined(consortium, "b")
    desk.tick()
    assert desk.status()["phase"] == "open"
    assert len(desk.letters("a", 0)) == len(desk.letters("b", 0)) == 1
    with pytest.raises(ConfigError, match="is under way"):
        plan(consortium, config.parse({}), consortium.folder)


def test_an_older_copy_of_the_store_is_noticed(consortium: Consortium) -> None:
    """Who has letters that were never written here is told, instead of waiting for ever."""
    assert consortium.store.lead("me", 0.0, 1.0)
    desk = open_desk(consortium, Bell())
    assert desk.letters("a", 0) == []
    with pytest.raises(LinkRefused, match="older than your last letter"):
        desk.letters("a", 1)


def test_a_backup_brings_all_back(consortium: Consortium, tmp_path: Path) -> None:
    joined(consortium, "a", "b")
    backup(consortium.folder, tmp_path / "backup.zip")
    assert stat.S_IMODE((tmp_path / "backup.zip").stat().st_mode) == 0o600
    restore(tmp_path / "backup.zip", tmp_path / "again")
    again = Consortium(tmp_path / "again")
    assert again.store.parties() == consortium.store.parties()
    assert again.store.head() == consortium.store.head()
    assert verify(again.folder).faults == ()
    again.close()
    with pytest.raises(ConfigError, match="not empty"):
        restore(tmp_path / "backup.zip", tmp_path / "again")
    (tmp_path / "none.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match="no backup"):
        restore(tmp_path / "none.zip", tmp_path / "nowhere")


def test_an_export_verifies_alone_and_changes_show(consortium: Consortium, tmp_path: Path) -> None:
    joined(consortium, "a", "b")
    assert consortium.store.lead("me", 0.0, 1.0)
    open_desk(consortium, Bell()).tick()
    told = export(consortium, tmp_path / "audit.zip")
    assert told == verify(tmp_path / "audit.zip") == verify(consortium.folder)
    assert (told.events, told.letters, told.faults) == (5, 2, ())  # two invited, two joined, one started; two asked
    names = zipfile.ZipFile(tmp_path / "audit.zip").namelist()
    assert not [name for name in names if name.endswith(".key")]
    for statement, says in (
        ("UPDATE events SET at = at + 1 WHERE seq = 2", "event 2: the chain of hashes breaks"),
        ("UPDATE runs SET phase = 'finished'", "its events lead to 'open'"),
        ("DELETE FROM letters WHERE \"to\" = 'a'", "event 5: other letters follow from it"),
        ("UPDATE letters SET number = 7 WHERE \"to\" = 'a'", "event 5: "),
    ):
        forged = _forged(tmp_path, statement)
        assert says in " ".join(verify(forged).faults)


def _forged(folder: Path, statement: str) -> Path:
    """The export with its database changed."""
    database = folder / "changed.db"
    with zipfile.ZipFile(folder / "audit.zip") as source:
        database.write_bytes(source.read("store.db"))
        with closing(sqlite3.connect(database)) as connection:
            connection.execute(statement)
            connection.commit()
            connection.execute("PRAGMA journal_mode = DELETE")
        with zipfile.ZipFile(folder / "forged.zip", "w") as target:
            for name in source.namelist():
                target.writestr(name, database.read_bytes() if name == "store.db" else source.read(name))
    return folder / "forged.zip"


@pytest.mark.parametrize("name", ["../evil", "payloads/../../evil", "other", "/etc/x"])
def test_an_archive_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr(name, b"x")
    with pytest.raises(DataError, match="no exported audit"):
        verify(tmp_path / "bad.zip")
    assert not (tmp_path.parent / "evil").exists()


def test_the_doctor_names_what_is_wrong(consortium: Consortium, capsys: pytest.CaptureFixture[str]) -> None:
    joined(consortium, "a", "b")
    assert all(check.good for check in check_consortium(consortium.folder))
    (consortium.folder / "server.key").chmod(0o644)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(consortium.folder)])
    assert ended.value.code == 2
    said = capsys.readouterr().out
    if sys.platform != "win32":
        assert "BAD  server.key is private: mode 644" in said
    shutil.rmtree(consortium.folder / "payloads")
    (consortium.folder / "coordinator.key").unlink()
    bad = {check.what: check for check in check_consortium(consortium.folder) if not check.good}
    assert "Restore it" in bad["coordinator.key is private"].remedy


def test_the_doctor_knows_its_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(tmp_path)])
    assert ended.value.code == 2
    assert "neither a consortium's nor a party's folder" in capsys.readouterr().err
