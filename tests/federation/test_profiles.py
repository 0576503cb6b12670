"""Profiles are made of the history alone, are reported by a simulation, and are sent to nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedstill import Federation, Forecast, Member
from fedstill.energy.frame import SiteLoad, window
from fedstill.energy.heterogeneity import Profile, heterogeneity
from fedstill.energy.profile import profile
from fedstill.energy.synthetic import sites
from fedstill.federation import History
from fedstill.round import Effect, Event, Received, Send
from fedstill.tasks.base import Prepared

TEST = ("2016-03-01", "2016-03-15")


class Silent(Forecast):
    """The same task without profiles."""

    def prepare(self, party: str, data: SiteLoad, history: Any = (None, None)) -> Prepared:
        return replace(super().prepare(party, data, history), profile=None)


@pytest.fixture(scope="module")
def made() -> dict[str, SiteLoad]:
    return sites(4, 0.8, days=80, seed=2)


def ran(made: dict[str, SiteLoad], task: Forecast) -> tuple[History, list[Any]]:
    """A run, and every message of it in order."""
    *members, public = made.items()
    seen: list[Any] = []

    def observe(event: Event | Effect) -> None:
        if isinstance(event, Received | Send):
            seen.append(event.reply if isinstance(event, Received) else event.message)

    enterprises = [Member(name, load, "linear", {"iterations": 20}, companions=()) for name, load in members]
    return Federation(task, enterprises, public[1], items=100).run(observe=observe), seen


@pytest.mark.parametrize("history", [(None, None), ("2016-01-10", None), ("2016-01-10", "2016-02-20")])
def test_a_profile_is_that_of_the_history(made: dict[str, SiteLoad], history: tuple[str | None, str | None]) -> None:
    load = next(iter(made.values()))
    found = Forecast(test=TEST).prepare("a", load, history).profile
    expected = profile(window(load, history[0], history[1] or TEST[0]))
    assert isinstance(found, Profile)
    assert found.history_days == expected.history_days
    assert found.level_kw == pytest.approx(expected.level_kw)
    assert found.daily == pytest.approx(expected.daily)
    assert found.heating_per_k == pytest.approx(expected.heating_per_k)
    later = load.data.copy()
    tested = later.index >= "2016-02-29 23:00"
    later.loc[tested, "load_kw"] *= np.linspace(1, 9, tested.sum())
    assert Forecast(test=TEST).prepare("a", replace(load, data=later), history).profile == found


def test_a_run_reports_profiles_and_sends_nothing_of_them(made: dict[str, SiteLoad]) -> None:
    told, messages = ran(made, Forecast(test=TEST))
    silent, silent_messages = ran(made, Silent(test=TEST))
    part = told.report.heterogeneity
    assert part is not None
    assert part.participants.keys() == {one.name for one in told.report.participants}
    profiles = [one.profile for one in told.outcomes if one.profile is not None]
    assert part.index == pytest.approx(heterogeneity(profiles).index, rel=1e-4)
    assert silent.report.heterogeneity is None
    assert told.report.communication == silent.report.communication
    assert len(messages) >= 9  # asked, answered and taught, three of each
    assert messages == silent_messages
