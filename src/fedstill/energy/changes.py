"""A site's load as it would be had the site a property that an owner may not want known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from fedstill.energy.frame import SiteLoad

NIGHT = (22, 23, 0, 1, 2, 3, 4, 5)
"""Hours of a night shift, local time."""
CLOSED_FROM, CLOSED_DAYS, AUGUST = 3, 21, 8
"""A closure in August: from its third day, for three weeks."""


def night_shift(load: SiteLoad) -> SiteLoad:
    """The same site with a shift at night: half of its swing is added in these hours of Mondays to Fridays."""
    local = pd.DatetimeIndex(load.data.index).tz_convert(load.zone)
    at_work = np.isin(local.hour, NIGHT) & (local.day_of_week < 5)
    low, high = load.data["load_kw"].quantile([0.1, 0.9])
    return _with(load, load.data["load_kw"] + at_work * (high - low) / 2)


def august_closure(load: SiteLoad) -> SiteLoad:
    """The same site, closed for three weeks of August: of what it takes above its lowest tenth a fifth is left."""
    local = pd.DatetimeIndex(load.data.index).tz_convert(load.zone)
    closed = (local.month == AUGUST) & (local.day >= CLOSED_FROM) & (local.day < CLOSED_FROM + CLOSED_DAYS)
    taken = load.data["load_kw"]
    low = float(taken.quantile(0.1))
    return _with(load, taken.where(~closed, low + (taken - low).clip(lower=0) / 5))


def _with(load: SiteLoad, taken: pd.Series) -> SiteLoad:
    return replace(load, data=load.data.assign(load_kw=taken))
