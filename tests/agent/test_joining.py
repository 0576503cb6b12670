"""Joining, also again after the answer got lost; and what lies in the folder then."""

from __future__ import annotations

import asyncio
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from offices import ADDRESS, Office, certified

from fedstill.agent import joining
from fedstill.agent.home import Home
from fedstill.errors import ConfigError, FedstillError, LinkDown, LinkRefused, WireError
from fedstill.service.invites import FORMAT, Invite
from fedstill.service.registry import Registry
from fedstill.service.store.store import Store
from fedstill.transports.letters import COORDINATOR
from fedstill.transports.roles import Role

TABLE = {"file": "data.csv", "learner": "linear"}


@pytest.fixture
def registry(office: Office) -> Iterator[Registry]:
    store = Store.open(f"sqlite:///{office.folder / 'store.db'}")
    store.lead("test", time.time(), 3)
    yield Registry(store, office.authority, time.time)
    store.close()


@pytest.fixture
def invite(office: Office, registry: Registry) -> Path:
    token = registry.invite("ann", Role.PARTICIPANT, 1)
    signer = certified(office.coordinator, COORDINATOR, Role.COORDINATOR).decode()
    authority = office.authority.cert_pem.decode()
    path = office.folder / "ann.invite"
    path.write_bytes(
        msgspec.json.encode(Invite(FORMAT, "office", "ann", ADDRESS, token, time.time() + 60, authority, signer))
    )
    return path


@pytest.fixture
def desk(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Enrols without a network; what is popped from here happens to the answer."""
    happens: list[str] = []

    async def enrol(address: str, token: str, request: bytes, authority: bytes) -> tuple[bytes, bytes]:
        assert address == ADDRESS
        answer = registry.enrol(token, request)
        if happens and happens.pop() == "lost":
            raise LinkDown("the answer got lost")
        return answer

    monkeypatch.setattr(joining, "enrol", enrol)
    return happens


def join(invite: Path, folder: Path, **table: Any) -> Home:
    return asyncio.run(joining.join(invite, folder, TABLE | table))


def test_a_folder_that_is_complete(invite: Path, desk: list[str], tmp_path: Path) -> None:
    home = join(invite, tmp_path / "ann")
    assert home.settings.participant.name == "ann"
    assert home.identity.certificate == home.certificate
    assert home.coordinator.name == COORDINATOR
    assert home.accepted is None
    assert sorted(path.name for path in home.folder.iterdir()) == [
        *("authority.pem", "certificate.pem", "coordinator.pem", "key.pem", "participant.toml")
    ]


def test_joining_again_after_a_lost_answer_uses_the_same_key(invite: Path, desk: list[str], tmp_path: Path) -> None:
    desk.append("lost")
    with pytest.raises(LinkDown):
        join(invite, tmp_path / "ann")
    key = (tmp_path / "ann" / "key.pem").read_bytes()
    home = join(invite, tmp_path / "ann")
    assert (home.folder / "key.pem").read_bytes() == key
    assert home.identity.certificate is not None


def test_an_invite_works_once(invite: Path, desk: list[str], tmp_path: Path) -> None:
    join(invite, tmp_path / "ann")
    with pytest.raises(LinkRefused):
        join(invite, tmp_path / "another")


def test_nobody_is_moved_out_of_a_folder(invite: Path, desk: list[str], tmp_path: Path) -> None:
    join(invite, tmp_path / "ann")
    with pytest.raises(ConfigError, match="lives here already"):
        join(invite, tmp_path / "ann")


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_the_key_is_for_its_owner_alone(invite: Path, desk: list[str], tmp_path: Path) -> None:
    desk.append("lost")  # also before there is a certificate
    with pytest.raises(LinkDown):
        join(invite, tmp_path / "ann")
    key = tmp_path / "ann" / "key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    join(invite, tmp_path / "ann")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_wrong_table_shows_before_a_key_is_made(invite: Path, desk: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no key 'timezon'") as caught:
        join(invite, tmp_path / "ann", timezon="UTC")
    assert "timezone" in caught.value.remedy
    assert not (tmp_path / "ann").exists()


@pytest.mark.parametrize("wrong", ["another name", "another authority"])
def test_a_certificate_that_is_not_ours_is_not_taken(
    wrong: str, invite: Path, office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def enrol(*_: object) -> tuple[bytes, bytes]:
        return certified(office.ann, "bob"), b""

    if wrong == "another authority":
        told = msgspec.json.decode(invite.read_bytes())
        told["authority"] = told["coordinator"]
        invite.write_bytes(msgspec.json.encode(told))
    monkeypatch.setattr(joining, "enrol", enrol)
    with pytest.raises(WireError, match="not of this consortium"):
        join(invite, tmp_path / "ann")
    assert not (tmp_path / "ann" / "certificate.pem").exists()


def test_what_a_coordinator_says_no_to_shows_no_key(
    invite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def enrol(*_: object) -> tuple[bytes, bytes]:
        raise LinkRefused("the invitation has expired")

    monkeypatch.setattr(joining, "enrol", enrol)
    with pytest.raises(FedstillError) as caught:
        join(invite, tmp_path / "ann")
    secret = (tmp_path / "ann" / "key.pem").read_text().splitlines()[1]
    assert secret not in str(caught.value) + caplog.text


# Those who take no part.


@pytest.fixture
def ada(invite: Path, registry: Registry) -> Path:
    """An auditor's invite."""
    told = msgspec.json.decode(invite.read_bytes(), type=Invite)
    token = registry.invite("ada", Role.AUDITOR, 1)
    path = invite.with_name("ada.invite")
    path.write_bytes(msgspec.structs.replace(told, name="ada", token=token, role=Role.AUDITOR).to_bytes())
    return path


def test_a_visitors_folder_that_is_complete(ada: Path, desk: list[str], tmp_path: Path) -> None:
    desk.append("lost")
    with pytest.raises(LinkDown):
        asyncio.run(joining.join_as_visitor(ada, tmp_path / "ada"))
    visitor = asyncio.run(joining.join_as_visitor(ada, tmp_path / "ada"))
    settings = visitor.settings
    assert (settings.name, settings.role, settings.address) == ("ada", "auditor", ADDRESS)
    assert visitor.identity.certificate == visitor.certificate
    assert visitor.certificate.role is Role.AUDITOR
    assert visitor.coordinator.name == COORDINATOR
    assert stat.S_IMODE((tmp_path / "ada" / "key.pem").stat().st_mode) == 0o600 or sys.platform == "win32"
    with pytest.raises(ConfigError, match="lives here already"):
        asyncio.run(joining.join_as_visitor(ada, tmp_path / "ada"))


def test_each_joins_by_its_own_command(invite: Path, ada: Path, desk: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'ada' is invited as an auditor") as caught:
        join(ada, tmp_path / "ada")
    assert f"fedstill join {ada}" in caught.value.remedy
    with pytest.raises(ConfigError, match="'ann' is invited as a participant") as caught:
        asyncio.run(joining.join_as_visitor(invite, tmp_path / "ann"))
    assert f"fedstill participant join {invite} --data" in caught.value.remedy
    assert not (tmp_path / "ada").exists()
    assert not (tmp_path / "ann").exists()


def test_an_invite_leads_to_no_other_place(
    ada: Path, desk: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    told = msgspec.json.decode(ada.read_bytes(), type=Invite)
    ada.write_bytes(msgspec.structs.replace(told, name="../there").to_bytes())
    with pytest.raises(ConfigError, match="cannot be the name of a file"):
        asyncio.run(joining.join_as_visitor(ada, None))
    assert not (tmp_path / "there").exists()


def test_a_certificate_in_another_role_is_not_taken(ada: Path, desk: list[str], tmp_path: Path) -> None:
    told = msgspec.json.decode(ada.read_bytes(), type=Invite)
    ada.write_bytes(msgspec.structs.replace(told, role=Role.OPERATOR).to_bytes())
    with pytest.raises(WireError, match="not of this consortium"):
        asyncio.run(joining.join_as_visitor(ada, tmp_path / "ada"))


@pytest.mark.parametrize("change", [{"role": "coordinator"}, {"role": "king"}, {"format": 2}, {"more": 1}, {"name": 1}])
def test_what_is_no_invite(ada: Path, desk: list[str], tmp_path: Path, change: dict[str, Any]) -> None:
    ada.write_bytes(msgspec.json.encode({**msgspec.json.decode(ada.read_bytes()), **change}))
    with pytest.raises(ConfigError, match=r"this is no invite|has format 2"):
        asyncio.run(joining.join_as_visitor(ada, tmp_path / "ada"))
    assert not (tmp_path / "ada").exists()
