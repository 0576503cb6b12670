"""Transfer sets: joined, sampled, and made of what a participant gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedstill import Forecast
from fedstill.energy.frame import window
from fedstill.energy.synthetic import sites
from fedstill.labels import Outputs, Space
from fedstill.sites import Floor, Rows, Site
from fedstill.tasks.base import Examination, Prepared, TransferSet, contributed
from fedstill.tasks.inputs import WARM_UP_DAYS

OUTPUTS = Outputs(Space.QUANTILES, (0.1, 0.5, 0.9))


def rows(first: int, n: int) -> np.ndarray:
    return np.arange(first, first + n, dtype=np.float32)[:, None]


def test_joined_sets_stand_one_after_the_other_and_share_no_block() -> None:
    parts = [
        TransferSet(rows(0, 3), 10, np.array([7, 7, 9])),
        TransferSet(rows(10, 2), 5),
        TransferSet(rows(20, 2), 1, np.array([7, 7])),
    ]
    joined = TransferSet.join(parts)
    assert joined.X.ravel().tolist() == [0, 1, 2, 10, 11, 20, 21]
    assert joined.n_bytes == 16
    assert joined.block is not None
    assert [joined.block.tolist().count(one) for one in joined.block] == [2, 2, 1, 1, 1, 2, 2]


def test_a_sample_keeps_each_item_s_block() -> None:
    whole = TransferSet(rows(0, 500), 0, np.arange(500) // 24)
    sample = whole.sample(60, seed=1)
    assert len(sample.X) == 60
    assert sample.block is not None
    assert sample.block.tolist() == (sample.X.ravel() // 24).astype(int).tolist()


def test_days_are_the_blocks_of_forecasts() -> None:
    one, other = (window(site, "2016-01-01", "2016-01-31") for site in sites(2, days=40).values())
    block = Forecast().transfer([one, other]).block
    assert block is not None
    assert len(set(block)) == 2 * (30 - WARM_UP_DAYS)
    assert set(np.unique(block, return_counts=True)[1]) == {24}


@pytest.fixture
def prepared() -> Prepared:
    """Rows to learn from are 0 to 99, ten a day and the days in two folds, test rows from 300 on."""
    own = Rows(rows(0, 100), np.full(100, -1.0), np.arange(100) // 10)
    site = Site("a", own, Floor.fit(OUTPUTS, own.y), np.arange(100) // 10 % 2)
    return Prepared(site, Examination(rows(300, 9), rows(0, 9), rows(0, 9)))


def test_contributed_are_inputs_of_rows_to_learn_from_alone(prepared: Prepared) -> None:
    given = contributed(prepared, 30, seed=4)
    places = given.X.ravel().tolist()
    assert len(set(places)) == 30
    assert set(places) <= set(range(100))
    assert given.n_bytes == 4 * 30
    assert given.block is not None
    assert given.block.tolist() == [place // 10 for place in places]


def test_no_more_can_be_contributed_than_there_are(prepared: Prepared) -> None:
    assert contributed(prepared, 1000).X.ravel().tolist() == list(range(100))


def test_the_draw_follows_from_seed_and_name(prepared: Prepared) -> None:
    other = replace(prepared, site=replace(prepared.site, party="b"))
    drawn = [contributed(one, 30, seed).X.tobytes() for one, seed in ((prepared, 0), (prepared, 1), (other, 0))]
    assert len(set(drawn)) == 3
    assert contributed(prepared, 30, 0).X.tobytes() == drawn[0]
