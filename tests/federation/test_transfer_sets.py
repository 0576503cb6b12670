"""What members contribute to the transfer set, through the Python interface."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedstill import Federation, Forecast, Member
from fedstill.energy.synthetic import sites
from fedstill.errors import ConfigError

SITES = list(sites(3, 0.2, days=70).values())
TASK = Forecast(test=("2016-03-01", "2016-03-08"), levels=(0.1, 0.5, 0.9), companions=())
SPAN = ("2016-01-10", "2016-02-25")
TWO = [Member(name, site, "linear", {"iterations": 20}, SPAN) for name, site in zip("ab", SITES, strict=False)]


def test_a_federation_lives_of_what_its_members_contribute() -> None:
    history = Federation(TASK, [replace(TWO[0], contributes=150), TWO[1]], None, items=120).run()
    assert history.rounds[0].answered == ("a", "b")
    assert history.report.communication.transfer_set_bytes == 2 * 4 * 150 * len(TASK.features)


def test_without_any_source_there_is_no_transfer_set() -> None:
    with pytest.raises(ConfigError, match="there is no transfer set") as caught:
        Federation(TASK, TWO, None)
    assert "contribute" in caught.value.remedy


def test_nobody_contributes_less_than_nothing() -> None:
    with pytest.raises(ConfigError, match="-1 rows cannot be given") as caught:
        Federation(TASK, [TWO[0], replace(TWO[1], contributes=-1)], SITES[2])
    assert caught.value.where == "participant b, contributes"
