"""Observers, auditors and operators in a consortium: who is invited as what, by whom, and what is noted of it."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fedstill import config
from fedstill.energy.synthetic import synthetic
from fedstill.errors import ConfigError, LinkRefused
from fedstill.service.administration import Administrator
from fedstill.service.consortium import Consortium
from fedstill.service.export import PIECE_BYTES, export, fill_private, pieces, verify
from fedstill.service.founding import found, plan
from fedstill.service.invites import read_invite
from fedstill.service.rights import FROM_AFAR, MEMBERS
from fedstill.service.store.chain import verify_chain
from fedstill.service.store.store import Store
from fedstill.transports.certificates import Certificate
from fedstill.transports.identity import Identity
from fedstill.transports.roles import Role


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> config.FederationFile:
    folder = tmp_path_factory.mktemp("file")
    frame = synthetic(3, 40)
    frame.to_csv(folder / "load.csv", index=False)
    return config.parse(
        {
            "name": "trio",
            "task": {"levels": [0.5], "test": ["2016-02-01", ""]},
            "data": {"file": str(folder / "load.csv"), "timezone": "Europe/Berlin"},
            "transfer": {"site": sorted(frame["unique_id"].unique())[2], "items": 50},
            "participants": [{"name": "a"}, {"name": "b"}],
        }
    )


@pytest.fixture
def consortium(file: config.FederationFile, tmp_path: Path) -> Iterator[Consortium]:
    founded = found(tmp_path / "trio", file, tmp_path, "https://127.0.0.1:18999")
    yield founded
    founded.close()


def joined(consortium: Consortium, name: str, role: Role) -> Certificate:
    invite = read_invite(consortium.invite(name, 1, role))
    pem, _ = consortium.registry.enrol(invite.token, Identity.create().request_pem(name))
    return Certificate.from_pem(pem)


def events(consortium: Consortium) -> list[tuple[str, object]]:
    """What the chain says of invitations and revocations."""
    records = [record for record in consortium.store.records() if record.kind in ("invited", "revoked")]
    return [(record.kind, json.loads(record.body)) for record in records]


@pytest.mark.parametrize("role", sorted(MEMBERS - {Role.PARTICIPANT}))
def test_an_invitation_gives_its_role_and_no_other(consortium: Consortium, role: Role) -> None:
    certificate = joined(consortium, "Ada", role)
    assert (certificate.name, certificate.role) == ("Ada", role)
    assert consortium.registry.who(certificate.fingerprint) == ("Ada", role)
    other = next(iter(MEMBERS - {role, Role.PARTICIPANT}))
    with pytest.raises(ConfigError, match=f"'Ada' is a {role}, and is invited as a {other}"):
        consortium.invite("Ada", 1, other)
    assert verify(consortium.folder).faults == ()


def test_invites_of_participants_are_as_they_always_were(consortium: Consortium) -> None:
    told = msgspec.json.decode(consortium.invite("a", 1).read_bytes())
    assert "role" not in told
    told = msgspec.json.decode(consortium.invite("Ada", 1, Role.AUDITOR).read_bytes())
    assert told["role"] == "auditor"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a", "'a' takes part itself"),
        ("coordinator", "'coordinator' takes part itself"),
        ("", "cannot be a name"),
        (" Ada", "cannot be a name"),
        ("x" * 65, "cannot be a name"),
        ("a\nb", "cannot be a name"),
        ("../Ada", "cannot be the name of a file"),
        ("..", "cannot be the name of a file"),
        ("Ada/b", "cannot be the name of a file"),
    ],
)
def test_names_that_nobody_can_have(consortium: Consortium, name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        consortium.invite(name, 1, Role.OBSERVER)
    assert consortium.store.invitations() == []
    assert not (consortium.folder / "invites").exists()


def test_those_who_take_no_part_come_over_https(consortium: Consortium) -> None:
    text = (consortium.folder / "consortium.toml").read_text(encoding="utf-8")
    (consortium.folder / "consortium.toml").write_text(f'{text}broker = "mqtts://x/y"\n', encoding="utf-8")
    again = Consortium(consortium.folder)
    assert read_invite(again.invite("a", 1, mqtt=True)).address == "mqtts://x/y"
    with pytest.raises(ConfigError, match="an auditor comes over HTTPS"):
        again.invite("Ada", 1, Role.AUDITOR, mqtt=True)
    again.close()


def test_no_participant_is_called_as_an_observer(consortium: Consortium, file: config.FederationFile) -> None:
    """The run would count the observer as the participant that it waits for."""
    joined(consortium, "c", Role.OBSERVER)
    three = [*file.participants, config.ParticipantTable(name="c")]
    with pytest.raises(ConfigError, match="'c' is the name of an observer"):
        plan(consortium, msgspec.structs.replace(file, participants=three), consortium.folder)


@pytest.mark.parametrize("role", sorted(MEMBERS))
def test_from_afar_operators_let_in_and_out_whom_they_may(consortium: Consortium, role: Role) -> None:
    administrator, name = Administrator(consortium), "a" if role is Role.PARTICIPANT else "Ada"
    joined(consortium, name, role)
    if role in FROM_AFAR:
        assert msgspec.json.decode(administrator.invite(name, role, 1.0, "Olga"))["name"] == name
        administrator.revoke(name, "Olga")
        assert consortium.store.party(name).status == "revoked"  # type: ignore[union-attr]
        return
    with pytest.raises(LinkRefused, match=f"nobody can invite an {role} from afar") as caught:
        administrator.invite("Eve", role, 1.0, "Olga")
    assert "fedstill coordinator invite" in caught.value.remedy
    with pytest.raises(LinkRefused, match=f"nobody can revoke an {role} from afar"):
        administrator.revoke(name, "Olga")
    assert consortium.store.party(name).status == "joined"  # type: ignore[union-attr]


def test_who_was_let_in_and_out_by_whom_is_written_down(
    consortium: Consortium, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fedstill.service.registry")
    administrator = Administrator(consortium)
    joined(consortium, "Olga", Role.OPERATOR)
    administrator.invite("Ada", Role.OBSERVER, 1.0, "Olga")
    administrator.revoke("Ada", "Olga")
    with pytest.raises(ConfigError, match="there is no party 'Eve'"):
        administrator.revoke("Eve", "Olga")
    assert events(consortium) == [
        ("invited", {"party": "Olga", "role": "operator", "by": ""}),
        ("invited", {"party": "Ada", "role": "observer", "by": "Olga"}),
        ("revoked", {"party": "Ada", "by": "Olga"}),
    ]
    logged = [(record.message, record.party, record.by) for record in caplog.records if hasattr(record, "by")]
    assert logged == [("invited", "Olga", ""), ("invited", "Ada", "Olga"), ("revoked", "Ada", "Olga")]
    assert verify(consortium.folder).faults == ()


def test_what_an_operator_does_beside_a_coordinator_that_serves_is_in_the_chain(consortium: Consortium) -> None:
    """At the command line, in a process of its own."""
    leading = Store.open(f"sqlite:///{consortium.folder / 'store.db'}")
    assert leading.lead("somebody", 0.0, 1.0)
    consortium.invite("Ada", 1, Role.AUDITOR)
    consortium.registry.revoke("Ada")
    assert events(consortium) == [
        ("invited", {"party": "Ada", "role": "auditor", "by": ""}),
        ("revoked", {"party": "Ada", "by": ""}),
    ]
    assert verify_chain(list(consortium.store.records())) is None
    assert consortium.store.party("Ada").status == "revoked"  # type: ignore[union-attr]
    leading.close()


def test_an_audit_in_pieces_is_the_audit_in_a_file(consortium: Consortium, tmp_path: Path) -> None:
    digest = consortium.blobs.put(os.urandom(12 * 2**20))
    told = export(consortium, tmp_path / "whole.zip")
    tracemalloc.start()
    sizes = []
    with (tmp_path / "pieces.zip").open("wb") as target:
        for piece in pieces(consortium):
            sizes.append(len(piece))
            target.write(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert max(sizes) < 4 * PIECE_BYTES
    assert peak < 8 * 2**20  # of 12 MiB that went by
    assert verify(tmp_path / "pieces.zip") == told
    with zipfile.ZipFile(tmp_path / "pieces.zip") as one, zipfile.ZipFile(tmp_path / "whole.zip") as other:
        assert one.namelist() == other.namelist()
        assert one.testzip() is None
        assert len(one.read(f"payloads/{digest}")) == 12 * 2**20


def test_an_audit_that_nobody_wants_any_more_leaves_nothing(
    consortium: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    begun = pieces(consortium)
    next(begun)
    assert list((tmp_path / "temporary").iterdir()) != []
    begun.close()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_half_an_audit_is_no_file(tmp_path: Path) -> None:
    def broken(file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise LinkRefused("cut off")

    with pytest.raises(LinkRefused):
        fill_private(tmp_path / "audit.zip", broken)
    assert list(tmp_path.iterdir()) == []
