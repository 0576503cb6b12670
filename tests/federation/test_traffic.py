"""Bytes of whole federations: grouping adds none, and where sketches come first only speakers send soft labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedstill import Federation, Forecast, History, Layout, Member, from_frame
from fedstill.energy.synthetic import synthetic

SITES = list(from_frame(synthetic(7, 70), Layout(timezone="Europe/Berlin")).values())
SPAN = ("2016-01-10", "2016-02-25")
ITEMS, LEVELS = 200, (0.1, 0.5, 0.9)
TABLE = ITEMS * len(LEVELS) * 4
"""Bytes of soft labels, without what stands around them."""


def run(strategy: str, rounds: int = 1, **options: Any) -> History:
    task = Forecast(test=("2016-03-01", "2016-03-08"), levels=LEVELS, folds=2)
    kinds = [("linear", {"iterations": 20}), ("extra_trees", {"trees": 4})] * 3
    members = [
        Member(name, site, kind, given, SPAN, companions=())
        for name, site, (kind, given) in zip("abcdef", SITES, kinds, strict=False)
    ]
    return Federation(task, members, SITES[6], strategy=strategy, options=options, items=ITEMS, rounds=rounds).run()


def traffic(history: History) -> dict[str, tuple[int, int]]:
    return {one.name: (one.bytes_up, one.bytes_down) for one in history.outcomes}


@pytest.fixture(scope="module")
def plain() -> History:
    """Plain distillation."""
    return run("fedmd")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"groups": 3, "select": "client", "weights": "equal", "aggregate": "mean"},
        {"groups": 2, "select": "item"},
        {"groups": 2, "audience": "group"},
        {"groups": 2, "select": "client", "reliability": "heldout"},
    ],
    ids=str,
)
def test_grouping_adds_no_byte(plain: History, options: dict[str, Any]) -> None:
    """Not one, up or down, of any participant: groups are found in what was sent anyway."""
    history = run("grouped", **options)
    assert traffic(history) == traffic(plain)
    assert len(history.rounds[0].groups) == options.get("groups", len(history.rounds[0].groups))


@pytest.mark.parametrize("speakers", [1, 2])
def test_only_speakers_send_soft_labels(plain: History, speakers: int) -> None:
    """Each of two groups has so many of them; the others send a sketch of 16 numbers. Everybody is taught as before."""
    history = run("sketched", groups=2, speakers=speakers, sketch=16)
    record = history.rounds[0]
    up = {party: sent for party, (sent, _) in traffic(history).items()}
    expected = sum(min(speakers, len(group)) for group in record.groups)
    assert sorted(size > TABLE for size in up.values()) == [False] * (6 - expected) + [True] * expected
    assert all(size < 300 or TABLE < size < TABLE + 600 for size in up.values())
    assert record.bytes_up == sum(up.values()) < sum(sent for sent, _ in traffic(plain).values())
    assert record.bytes_down == sum(got for _, got in traffic(history).values())
    assert (record.closed, record.answered, dict(record.refused)) == ("complete", tuple("abcdef"), {})
    assert set(record.validation_loss) == set("abcdef")
    for one in history.outcomes:
        assert np.isfinite(one.predictions["distilled"]).all()


def test_rounds_are_those_that_teach() -> None:
    history = run("sketched", rounds=2, groups=2)
    assert [one.round for one in history.rounds] == [1, 2]
    assert all(len(one.groups) == 2 and one.bytes_up > 2 * TABLE for one in history.rounds)
