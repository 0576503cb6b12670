"""Rows of the classification task: drawn by name, encoded as one reads them, refused by row and column."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fedstill.errors import ConfigError, DataError
from fedstill.labels import Space
from fedstill.tasks.classification import Classification

TASK = Classification("state", ("off", "on", "fault"), ("power", "hours"), {"kind": ("pump", "press")})
TABLE = pd.DataFrame(
    {
        "power": np.arange(100.0),
        "hours": np.arange(100) % 24,
        "kind": np.where(np.arange(100) % 3, "pump", "oven"),
        "state": np.where(np.arange(100) < 50, "off", "on"),
        "note": "not read",
    }
)


def changed(row: int, column: str, value: object) -> pd.DataFrame:
    table = TABLE.astype({column: object})
    table.loc[row, column] = value
    return table


def test_inputs_are_numbers_and_indicators_in_the_order_of_the_features() -> None:
    X = TASK.inputs(TABLE, "here")
    assert TASK.features == ("power", "hours", "kind=pump", "kind=press")
    assert X.dtype == np.float32
    assert X[25].tolist() == [25, 1, 1, 0]
    assert X[30].tolist() == [30, 6, 0, 0]  # an oven is none of the kinds that are listed


def test_outputs_are_probabilities_of_all_classes() -> None:
    assert TASK.outputs.space is Space.PROBABILITIES
    assert TASK.outputs.columns == ("off", "on", "fault")


def test_every_row_is_in_one_part_and_the_shares_are_as_asked() -> None:
    ready = TASK.prepare("here", TABLE)
    own, exam = ready.site.rows, ready.examination
    assert (len(own), len(exam.X)) == (75, 25)
    assert sorted(np.concatenate([own.X, exam.X])[:, 0]) == list(range(100))
    for X, y in ((own.X, own.y), (exam.X, exam.actual)):
        assert y.tolist() == (X[:, 0] >= 50).astype(int).tolist()
    assert ready.examination.restore(np.eye(3)[:2]).tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(("folds", "sizes"), [(4, [19, 19, 19, 18]), (2, [38, 37]), (20, [4] * 15 + [3] * 5)])
def test_folds_are_alike_in_size_and_have_all_classes(folds: int, sizes: list[int]) -> None:
    """75 rows are dealt out class by class, so that shares of classes differ by one row at most."""
    site = replace(TASK, folds=folds).prepare("here", TABLE).site
    counts = np.array([np.bincount(site.rows.y[site.fold == fold], minlength=2) for fold in site.folds])
    assert counts.sum(axis=1).tolist() == sizes
    assert (counts.max(axis=0) - counts.min(axis=0)).tolist() <= [1, 1]
    assert counts.min() >= 1


def test_folds_are_drawn_at_random() -> None:
    """A fold is no block of the table: over all rows it has neighbours and others."""
    site = TASK.prepare("here", TABLE).site
    held = np.sort(site.held_back([0]).X[:, 0])
    assert len(set(np.diff(held))) > 2


def test_nothing_is_held_back_where_nothing_is_asked_for() -> None:
    site = replace(TASK, folds=1).prepare("here", TABLE).site
    assert (list(site.folds), len(site.rows)) == ([], 75)


def test_the_floor_is_how_often_each_class_came_up_and_none_is_impossible() -> None:
    ready = TASK.prepare("here", TABLE)
    off = int((ready.site.rows.y == 0).sum())
    assert ready.site.floor.values == pytest.approx([(off + 1) / 78, (75 - off + 1) / 78, 1 / 78])


def test_the_draw_follows_the_name_and_the_seed_alone() -> None:
    first, again = TASK.prepare("here", TABLE), TASK.prepare("here", TABLE)
    assert first.site.rows.X.tobytes() == again.site.rows.X.tobytes()
    assert first.site.fold.tolist() == again.site.fold.tolist()
    for other in (TASK.prepare("there", TABLE), replace(TASK, seed=1).prepare("here", TABLE)):
        assert other.site.rows.X.tobytes() != first.site.rows.X.tobytes()


def test_a_transfer_set_needs_no_classes() -> None:
    transfer = TASK.transfer(TABLE.drop(columns="state"))
    assert transfer.X.tolist() == TASK.inputs(TABLE, "here").tolist()
    assert transfer.n_bytes == 100 * 4 * 4


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"classes": ("on",)}, "task.classes"),
        ({"classes": ("on", "on")}, "task.classes"),
        ({"columns": (), "categories": None}, "task.columns"),
        ({"columns": ("power", "power")}, "task.columns"),
        ({"columns": ("power", "kind")}, "task.columns"),
        ({"columns": ("power", "state")}, "task.columns"),
        ({"test": 0}, "task.test"),
        ({"test": 1}, "task.test"),
        ({"test": -0.1}, "task.test"),
        ({"folds": 0}, "task.folds"),
        ({"folds": 21}, "task.folds"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(TASK, **settings)
    assert caught.value.where == key
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (changed(41, "power", "much"), "site here, column power: 'much' in row 42 is no finite number"),
        (changed(41, "power", None), "in row 42 is no finite number"),
        (changed(41, "power", np.inf), "'inf' in row 42 is no finite number"),
        (changed(7, "state", "idle"), "column state: class 'idle' in row 8 is not one of off, on, fault"),
        (changed(7, "state", None), "in row 8 is not one of"),
        (TABLE.drop(columns="hours"), "column 'hours' is missing. Columns are: power, kind, state, note"),
        (TABLE.drop(columns="kind"), "column 'kind' is missing"),
        (TABLE.drop(columns="state"), "the class column 'state' is missing"),
        (TABLE[:12], "9 rows are left to learn from, 10 are needed"),
        (TABLE[:30], "8 rows are left to be judged on, 10 are needed"),
        (TABLE[:0], "0 rows are left to learn from"),
    ],
)
def test_tables_that_do_not_fit(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError) as caught:
        TASK.prepare("here", table)
    assert message in str(caught.value)
    assert "site here" in caught.value.where
    assert caught.value.remedy


def test_an_empty_transfer_set() -> None:
    with pytest.raises(DataError, match="no rows"):
        TASK.transfer(TABLE[:0])
