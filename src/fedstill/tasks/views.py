"""Rows of a forecast for a model whose training is accounted for: of a row's past they need the last known day alone.

Everything is relative to the mean load of that day, so that level and scale of the whole history, which every day of
it has a part in, are not needed. The same columns can be told from a transfer set's inputs, where level and base
cancel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fedstill.energy.known import MIN_KNOWN, RECENT_HOURS, Known
from fedstill.labels import Array
from fedstill.sites import View
from fedstill.tasks.inputs import AHEAD, CALENDAR

SATURDAY, SUNDAY, MONDAY = 5, 6, 0
BACK_DAYS = 7


def view_of_site(known: Known, calendar: Sequence[Array], ahead: Mapping[str, Array], learning: Array) -> View:
    """What a site's load, in kW, gives a release model to learn from.

    Parameters
    ----------
    known:
        The load of the history and nothing before it.
    calendar:
        See `inputs.calendar_columns`.
    ahead:
        What is known in advance, each of shape (n,).
    learning:
        Which intervals belong to days that may be learned from, shape (n,).
    """
    recent = np.column_stack(known.recent())
    level = recent.mean(axis=1)
    changes = [values - known.lag(1, values) for values in ahead.values()]
    columns = _known_columns(np.column_stack(calendar).astype(np.float64), [*ahead.values(), *changes])
    relative = np.column_stack([recent, known.lag(1), known.back(7)]) - level[:, None]
    days = np.unique(known.day[learning])
    usable = learning & np.isfinite(columns).all(axis=1) & np.isfinite(relative).all(axis=1) & np.isfinite(known.load)
    # Where clocks change, the last 24 hours may begin a day earlier: a day would be in more blocks than is accounted.
    usable &= known.first_recent_day() >= known.day - (1 if known.issue_hour == 24 else 2)
    return View(
        known=columns[usable],
        relative=relative[usable],
        swing=_swings(known.load[learning], known.day[learning]),
        offset=np.zeros(int(usable.sum())),
        y=(known.load - (known.lag(1) + known.back(7)) / 2)[usable],
        block=known.day[usable],
        reach=3 if known.issue_hour in (0, 24) else 4,
        blocks=len(days),
        back=BACK_DAYS,
        first=int(days[0]) if len(days) else 0,
    )


def view_of_items(X: Array, names: Sequence[str], block: Array | None) -> View:
    """The same columns of a transfer set's inputs X, shape (m, f), in units of the scale of each item's own site."""
    values = np.asarray(X, np.float64)
    place = {name: column for column, name in enumerate(names)}
    calendar = [name for name in names if name.startswith(CALENDAR)]
    ahead = [values[:, place[name]] for name in names if name.startswith(AHEAD)]
    recent = values[:, place[f"recent_{RECENT_HOURS}"] : place["recent_1"] + 1]
    level, base = recent.mean(axis=1), values[:, place["base"]]
    days = np.arange(len(X)) if block is None else block
    return View(
        known=_known_columns(values[:, [place[name] for name in calendar]], ahead),
        relative=np.column_stack([recent, values[:, place["lag_1"]] + base, values[:, place["week"]] + base])
        - level[:, None],
        swing=recent[np.unique(days, return_index=True)[1]].std(axis=1),
        offset=(values[:, place["lag_1"]] + values[:, place["week"]]) / 2,
        y=None,
        block=days,
        reach=0,
        blocks=len(X),
    )


def _swings(load: Array, day: Array) -> Array:
    """Standard deviation of each day's readings, of days that have them all but a few; shape (days,)."""
    known = np.isfinite(load)
    days, of, rows = np.unique(day, return_inverse=True, return_counts=True)
    count = np.bincount(of[known], minlength=len(days))
    mean = np.bincount(of[known], load[known], len(days)) / np.maximum(count, 1)
    apart = np.bincount(of[known], (load[known] - mean[of[known]]) ** 2, len(days)) / np.maximum(count, 1)
    swings: Array = np.sqrt(apart)[count >= MIN_KNOWN * rows]
    return swings


def _known_columns(calendar: Array, ahead: Sequence[Array]) -> Array:
    """Calendar columns (sine, cosine, seven weekdays, perhaps holidays) with their products, and covariates; (n, a)."""
    sine, cosine = calendar[:, 0], calendar[:, 1]
    angle = np.arctan2(sine, cosine)
    waves = [wave(k * angle) for k in (1, 2, 3) for wave in (np.sin, np.cos)]
    special = [calendar[:, 2 + day] for day in (SATURDAY, SUNDAY, MONDAY)]
    special += [calendar[:, column] for column in range(9, min(calendar.shape[1], 10))]
    products = [day * wave for day in special for wave in waves[:4]]
    return np.column_stack([*waves, calendar[:, 2:], *products, *ahead])
