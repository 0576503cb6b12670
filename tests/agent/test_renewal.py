"""The certificate in a participant's folder is renewed while it works."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from offices import FakeLink, Naps, Office, certified, failing

from fedstill.agent.home import Home
from fedstill.agent.renewal import RenewingLink
from fedstill.errors import LinkDown, LinkRefused
from fedstill.transports.authority import Authority
from fedstill.transports.roles import Role

DAY_S = 86_400.0


class Links:
    """Opens fake links."""

    def __init__(self, office: Office, **how: Any) -> None:
        self.office = office
        self.how = how
        self.opened: list[FakeLink] = []

    def __call__(self, home: Home) -> FakeLink:
        self.opened.append(FakeLink(self.office, [], **self.how))
        return self.opened[-1]

    def calls(self) -> list[list[str]]:
        return [link.calls for link in self.opened]


def poll(link: RenewingLink, times: int = 1) -> None:
    for _ in range(times):
        asyncio.run(link.letters(0, 0))


def test_it_is_renewed_once_when_a_third_of_its_life_is_left(office: Office) -> None:
    home, links = office.home(days=90, ago=0), Links(office)
    before = home.certificate
    naps = Naps(time.time() + 59 * DAY_S)
    link = RenewingLink(home, lambda: links(home), naps.clock)
    poll(link, 2)
    assert links.calls() == [["letters", "letters"]]
    naps.now += 2 * DAY_S
    poll(link, 2)
    assert links.calls() == [["letters", "letters", "renew"], ["letters", "letters"]]
    assert links.opened[0].closed
    after = home.certificate
    assert after.ends > before.ends
    assert after.public_key == before.public_key
    assert home.identity.certificate == after


@pytest.mark.parametrize("fault", [LinkDown("no connection"), LinkRefused("not a party"), OSError(28, "disk full")])
def test_where_it_cannot_be_renewed_the_work_goes_on_with_a_warning(
    fault: Exception, office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    home = office.home(days=90, ago=80)
    before = (home.folder / "certificate.pem").read_bytes()
    links, naps = Links(office, before=failing("renew", 3, fault)), Naps(time.time())
    link = RenewingLink(home, lambda: links(home), naps.clock)
    with caplog.at_level(logging.WARNING):
        poll(link, 5)
    assert links.calls() == [["renew", *["letters"] * 5]]
    (record,) = caplog.records
    assert record.getMessage() == "the certificate could not be renewed"
    assert record.days_left == pytest.approx(10, abs=0.1)  # type: ignore[attr-defined]
    assert (home.folder / "certificate.pem").read_bytes() == before
    naps.now += 3601
    poll(link, 2)
    assert links.calls()[0].count("renew") == 2  # an hour later


@pytest.mark.parametrize("wrong", ["another key", "another name", "another authority", "older", "nonsense"])
def test_what_does_not_go_on_from_it_is_not_taken(wrong: str, office: Office) -> None:
    home = office.home(days=90, ago=80)
    stranger = Authority.create("stranger", datetime.now(UTC))
    request = office.ann.request_pem("ann")
    given = {
        "another key": certified(office.other, "ann"),
        "another name": certified(office.ann, "bob"),
        "another authority": stranger.certify(request, "ann", Role.PARTICIPANT, datetime.now(UTC), 365),
        "older": certified(office.ann, "ann", days=5),
        "nonsense": b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n",
    }[wrong]
    before = (home.folder / "certificate.pem").read_bytes()
    links = Links(office)
    link = RenewingLink(home, lambda: links(home), time.time)

    async def renew(request_pem: bytes) -> bytes:
        return given

    links.opened[0].renew = renew  # type: ignore[method-assign]
    poll(link)
    assert (home.folder / "certificate.pem").read_bytes() == before
    assert len(links.opened) == 1


def test_it_is_written_whole(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash while it is written leaves the old one."""
    home = office.home(days=90, ago=80)
    before = (home.folder / "certificate.pem").read_bytes()

    def crash(descriptor: int) -> None:
        raise KeyboardInterrupt

    links = Links(office)
    link = RenewingLink(home, lambda: links(home), time.time)
    monkeypatch.setattr("os.fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        poll(link)
    assert (home.folder / "certificate.pem").read_bytes() == before
    assert not list(home.folder.glob(".*"))


def test_asking_for_terms_renews_too(office: Office) -> None:
    links, home = Links(office), office.home(days=90, ago=80)
    asyncio.run(RenewingLink(home, lambda: links(home), time.time).terms())
    assert links.calls() == [["renew"], ["terms"]]
