"""What observers, auditors and operators ask over HTTPS, and what becomes of it when the other side fails."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest
import tomli_w
from houses import opened

from fedstill.agent import visitor as visiting
from fedstill.agent.visitor import Visitor
from fedstill.errors import ConfigError, FedstillError, LinkDown, LinkRefused, WireError
from fedstill.testing.coordinator import Consortium
from fedstill.transports import visits
from fedstill.transports.certificates import Certificate
from fedstill.transports.letters import COORDINATOR
from fedstill.transports.roles import Role
from fedstill.transports.visits import VisitorLink

STATUS = {
    "federation": "small",
    "run": 1,
    "terms": "ab",
    "phase": "open",
    "why": "",
    "round": 1,
    "rounds": 2,
    "closes_at": 1.5,
    "parties": {"a": {"status": "joined", "last_seen": None, "heard": True}},
    "closings": [{"round": 1, "taught": True, "answered": ["a"], "refused": {}, "missing": [], "groups": [["a"]]}],
}


class Administration:
    """Exports what a test says."""

    content = staticmethod(lambda: iter([b"an ", b"audit"]))

    def invite(self, name, role, days, by, *, mqtt=False):
        return b"no invite"

    def revoke(self, name, by):
        pass

    def export(self):
        yield from self.content()


@pytest.fixture(scope="module")
def consortium(tmp_path_factory):
    return Consortium(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def shared(consortium, tmp_path_factory):
    administration = Administration()
    with opened(consortium, tmp_path_factory.mktemp("blobs"), administration=administration) as house:
        house.administration = administration
        yield house


@pytest.fixture
def house(shared, monkeypatch):
    monkeypatch.setattr(shared.desk, "status", lambda: STATUS)
    shared.now[0] += 1000
    yield shared
    vars(shared.administration).clear()


def home_of(house, folder, name="ada", role=Role.AUDITOR, days=60):
    """The folder of a visitor who has joined; its certificate began 30 days ago."""
    house.consortium.folder.mkdir(exist_ok=True)
    papers = house.consortium.papers(name, role, days)
    house.desk.members[papers.fingerprint] = (name, role)
    visitor = Visitor(folder)
    address = f"https://127.0.0.1:{house.server.port}"
    visitor.write(Visitor.SETTINGS, tomli_w.dumps({"name": name, "role": str(role), "address": address}).encode())
    visitor.write("key.pem", papers.key.read_bytes(), private=True)
    visitor.write("certificate.pem", papers.certificate.read_bytes())
    visitor.write("authority.pem", house.consortium.authority.cert_pem)
    signer = house.consortium.papers(COORDINATOR, Role.COORDINATOR)
    visitor.write("coordinator.pem", signer.certificate.read_bytes())
    return visitor


@pytest.fixture
def ada(house, tmp_path):
    return home_of(house, tmp_path / "ada")


def test_the_status_of_a_run(ada):
    assert ada.status() == STATUS


@pytest.mark.parametrize("wrong", [{}, {**STATUS, "run": "one"}, {**STATUS, "parties": [1]}, []])
def test_a_status_that_is_none(house, ada, monkeypatch, wrong):
    monkeypatch.setattr(house.desk, "status", lambda: wrong)
    with pytest.raises(WireError, match="not what it should be"):
        ada.status()


def test_an_answer_without_end_is_given_up(house, ada, monkeypatch):
    monkeypatch.setattr(visits, "MAX_ANSWER_BYTES", 100)
    with pytest.raises(WireError, match="over the bound of 100 bytes"):
        ada.status()


def test_an_invite_that_is_none_is_not_kept(house, tmp_path):
    olga = home_of(house, tmp_path / "olga", "olga", Role.OPERATOR)
    with pytest.raises(ConfigError, match="this is no invite"):
        olga.invite("eve", 1, Role.OBSERVER, mqtt=False)
    assert not (tmp_path / "olga" / "invites").exists()


def test_an_audit_is_fetched_whole(ada, tmp_path):
    ada.fetch_audit(tmp_path / "audit.zip")
    assert (tmp_path / "audit.zip").read_bytes() == b"an audit"


def test_an_audit_that_breaks_off_is_no_file(house, ada, tmp_path):
    def broken():
        yield bytes(10**6)
        raise OSError("the disk")

    house.administration.content = broken
    with pytest.raises(LinkDown):
        ada.fetch_audit(tmp_path / "audit.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["ada"]


def test_a_silent_coordinator_is_given_up(house, ada, tmp_path, monkeypatch):
    goes_on = threading.Event()

    def silent():
        yield b"an "
        goes_on.wait(20)

    house.administration.content = silent
    monkeypatch.setattr(visits, "SILENCE_S", 0.1)
    with pytest.raises(LinkDown, match="no answer in time"):
        ada.fetch_audit(tmp_path / "audit.zip")
    goes_on.set()
    assert [path.name for path in tmp_path.iterdir()] == ["ada"]


# Its certificate.


def test_a_certificate_is_renewed_once_a_third_of_its_life_is_left(house, tmp_path, monkeypatch):
    young, old = home_of(house, tmp_path / "young"), home_of(house, tmp_path / "old", days=32)
    before = young.certificate, old.certificate
    young.status(), old.status()
    assert young.certificate == before[0]
    assert old.certificate.ends > before[1].ends
    assert old.certificate.public_key == before[1].public_key
    old.status()  # with the new one


@pytest.mark.parametrize("answer", [LinkRefused("no"), b"no certificate"])
def test_what_was_asked_is_answered_where_renewing_fails(house, tmp_path, monkeypatch, caplog, answer):
    async def renew(self, request_pem):
        if isinstance(answer, FedstillError):
            raise answer
        return answer

    caplog.set_level(logging.WARNING, "fedstill")
    old = home_of(house, tmp_path / "old", days=32)
    monkeypatch.setattr(VisitorLink, "renew", renew)
    before = old.certificate
    assert old.status() == STATUS
    assert old.certificate == before
    assert "could not be renewed" in caplog.text


def test_a_third_is_a_third(consortium):
    own = Certificate.from_pem(consortium.papers("x", Role.OBSERVER).certificate.read_bytes())
    life = own.ends - own.starts
    assert not visiting.due(own, own.starts + life * 0.66)
    assert visiting.due(own, own.starts + life * 0.67)
    assert visiting.due(own, datetime.now(UTC) + timedelta(days=10_000))


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("visitor.toml", b'name = "eve"\nrole = "auditor"\naddress = "https://x:1"', "the certificate is about 'ada'"),
        ("visitor.toml", b'name = "ada"\nrole = "king"\naddress = "https://x:1"', "king"),
        ("visitor.toml", b'name = "ada"\nrole = "operator"\naddress = "https://x:1"', "no operator's certificate"),
        ("visitor.toml", b'name = "ada"\nrole = "auditor"\naddress = "mqtts://x"', "not the address of a coordinator"),
        ("visitor.toml", b"name = ", "not TOML"),
        ("key.pem", b"no key", "it cannot be read, is encrypted"),
        ("certificate.pem", b"none", "it cannot be read"),
        ("authority.pem", b"none", "it cannot be read"),
    ],
)
def test_a_folder_that_is_spoilt_is_named(ada, file, content, says):
    ada.write(file, content)
    with pytest.raises(ConfigError, match=says):
        ada.status()


def test_a_folder_of_nobody(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no such file\. Run `fedstill join` first"):
        Visitor(tmp_path).status()
