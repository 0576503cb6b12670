"""What an owner sees before anything leaves is what leaves."""

from __future__ import annotations

import asyncio
import csv
import json
from typing import Any

import numpy as np
import pytest
from offices import RECIPE, FakeLink, Office, Told, contents, fedstill, terms

from fedstill import wire
from fedstill.agent import taking_part
from fedstill.codecs.raw import Raw
from fedstill.errors import LearnerError
from fedstill.learners.networks import Linear
from fedstill.messages import Answer, Ask, Kind, Recipe
from fedstill.transports.letters import digest_of


@pytest.fixture
def link(office: Office, monkeypatch: pytest.MonkeyPatch) -> FakeLink:
    """What Ann's folder connects to."""
    link = FakeLink(office, [])
    monkeypatch.setattr(taking_part, "link_of", lambda home: link)
    return link


def dry_run(office: Office, **how: Any) -> Told:
    told = fedstill("participant", "dry-run", office.folder / "ann", *how.get("options", ()))
    assert told.code == 0, told.err
    return told


def test_it_leaves_no_trace_but_what_it_shows(office: Office, link: FakeLink) -> None:
    home = office.home()
    before = contents(office.folder)
    told = dry_run(office)
    after = contents(office.folder)
    assert {name for name in after if after[name] != before.get(name)} == {
        "ann/dry-run/release.csv",
        "ann/dry-run/release.json",
    }
    assert link.calls == ["terms", "fetch"]
    assert link.closed
    assert not home.journal_path.exists()
    assert "Nothing was sent" in told.out


def test_it_shows_what_then_leaves(office: Office, link: FakeLink) -> None:
    home = office.home()
    told = json.loads(dry_run(office, options=("--json",)).out)
    assert told["content"] == "4 soft labels of 2 numbers"
    assert (told["participant"], told["round"], told["rows_told"]) == ("ann", 1, None)
    link.parcels = [office.parcel(1, Ask(1, RECIPE)), office.ending(2, "failed", "enough")]
    result = asyncio.run(taking_part.take_part(home, accept=True))
    assert (result.ended, result.why) == ("failed", "enough")
    ((_, payload),) = link.posted
    assert (told["bytes"], told["sha256"]) == (len(payload), digest_of(payload))
    reply = wire.decode(payload)
    assert isinstance(reply, Answer)
    labels = Raw().decode(reply.payload).labels
    assert labels is not None
    with (home.folder / "dry-run" / "release.csv").open() as file:
        rows = list(csv.DictReader(file))
    shown = np.array([[float(row["no"]), float(row["yes"])] for row in rows], np.float32)
    np.testing.assert_array_equal(shown, labels.values)  # every digit of it
    assert [row["item"] for row in rows] == ["0", "1", "2", "3"]
    assert {row["weight"] for row in rows} == {"1.0"}


@pytest.mark.parametrize(
    ("recipe", "learner", "content", "header"),
    [
        (Recipe(Kind.SKETCH, sketch=3), "linear", "a sketch of 3 numbers", "name,index,value"),
        (Recipe(Kind.PARAMETERS), "mlp", "parameters in ", "name,index,value"),
        (Recipe(count=True, score=True), "linear", "4 soft labels of 2 numbers", "item,weight,no,yes"),
    ],
)
def test_every_kind_of_release(
    recipe: Recipe, learner: str, content: str, header: str, office: Office, link: FakeLink
) -> None:
    options = {"hidden": [4], "epochs": 2} if learner == "mlp" else {"iterations": 20}
    home = office.home(learner=learner, options=options)
    office.terms = terms(recipes=(recipe,))
    told = json.loads(dry_run(office, options=("--json",)).out)
    assert content in told["content"]
    assert (told["rows_told"], told["loss_told"] is None) == ((150, False) if recipe.count else (None, True))
    lines = (home.folder / "dry-run" / "release.csv").read_text().splitlines()
    assert lines[0] == header
    if recipe.release is Kind.PARAMETERS:
        assert told["content"].startswith(f"{len(lines) - 1} parameters")


def test_elsewhere(office: Office, link: FakeLink) -> None:
    office.home()
    out = office.folder / "to look at"
    dry_run(office, options=("--out", out))
    assert sorted(path.name for path in out.iterdir()) == ["release.csv", "release.json"]
    assert not (office.folder / "ann" / "dry-run").exists()


def test_what_would_be_refused_is_an_error(office: Office, link: FakeLink, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LearnerError("there is a number too large", remedy="Scale it")

    monkeypatch.setattr(Linear, "fit", fail)
    office.home()
    told = fedstill("participant", "dry-run", office.folder / "ann")
    assert told.code == 2
    assert "your participant would refuse: round 1 was refused: there is a number too large" in told.err
    assert not (office.folder / "ann" / "dry-run").exists()


def test_looking_at_terms_trains_nothing_and_begins_nothing(
    office: Office, link: FakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*_: object) -> None:
        raise AssertionError("it has trained")

    monkeypatch.setattr(Linear, "fit", trained)
    home = office.home()
    home.write("terms.json", b"damaged")
    told = fedstill("participant", "terms", home.folder)
    assert told.code == 0, told.err
    assert "soft labels about 4 public items of 2 inputs; nothing else" in told.out
    assert "these terms are new" in told.out
    assert not home.journal_path.exists()
    assert home.accepted == b"damaged"
    assert "these terms are accepted" in fedstill("participant", "terms", home.folder, "--accept").out
    assert home.accepted == office.terms.to_bytes()
