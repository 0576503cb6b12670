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
    parts = [ready.site.train.X, ready.site.valid.X, ready.examination.X]
    assert [len(part) for part in parts] == [55, 20, 25]
    assert sorted(np.concatenate(parts)[:, 0]) == list(range(100))
    for X, y in ((parts[0], ready.site.train.y), (parts[1], ready.site.valid.y), (parts[2], ready.examination.actual)):
        assert y.tolist() == (X[:, 0] >= 50).astype(int).tolist()
    assert ready.examination.restore(np.eye(3)[:2]).tolist() == [[1, 0, 0], [0, 1, 0]]


def test_the_floor_is_how_often_each_class_came_up_and_none_is_impossible() -> None:
    ready = TASK.prepare("here", TABLE)
    off = int((ready.site.train.y == 0).sum())
    assert ready.site.floor.values == pytest.approx([(off + 1) / 58, (55 - off + 1) / 58, 1 / 58])


def test_the_draw_follows_the_name_and_the_seed_alone() -> None:
    first, again = TASK.prepare("here", TABLE), TASK.prepare("here", TABLE)
    assert first.site.train.X.tobytes() == again.site.train.X.tobytes()
    for other in (TASK.prepare("there", TABLE), replace(TASK, seed=1).prepare("here", TABLE)):
        assert other.site.train.X.tobytes() != first.site.train.X.tobytes()


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
        ({"test": 0}, "task"),
        ({"test": 0.5, "validation": 0.5}, "task"),
        ({"validation": -0.1}, "task"),
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
        (TABLE[:15], "8 rows are left to learn from, 10 are needed"),
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
