"""Events, units and budgets: what they take, and for whom they count."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from fedstill.privacy.spending import (
    Budget,
    Event,
    Gaussian,
    Nothing,
    SampledGaussian,
    Spend,
    Unit,
    Unprotected,
    counted,
)

TRAINED = SampledGaussian(0.1, 4.0, 50, reach=2)


@pytest.mark.parametrize("event", [Unprotected(), Nothing(), Gaussian(2.0), Gaussian(0.5, 3), TRAINED])
def test_events_come_back_from_json(event):
    text = msgspec.json.encode(event)
    assert msgspec.json.decode(text, type=Event) == event
    assert hash(msgspec.json.decode(text, type=Event)) == hash(event)


def test_events_are_the_same_text_however_their_numbers_were_made():
    """The chain of a ledger is over this text."""
    text = b'{"type":"sampled_gaussian","rate":0.5,"multiplier":4.0,"steps":50}'
    for event in (SampledGaussian(0.5, 4, 50, 1), SampledGaussian(np.float32(0.5), np.float64(4), np.int64(50))):
        assert msgspec.json.encode(event) == text
    assert msgspec.json.encode(Gaussian(2)) == b'{"type":"gaussian","multiplier":2.0}'


@pytest.mark.parametrize(
    ("kind", "numbers", "said"),
    [
        (Gaussian, (0.0,), "multiplier has to be a number from 1e-30 to 1e\\+09, not 0.0"),
        (Gaussian, (-1.0,), "multiplier"),
        (Gaussian, (math.nan,), "multiplier"),
        (Gaussian, (math.inf,), "multiplier"),
        (Gaussian, ("much",), "multiplier"),
        (Gaussian, (1.0, 0), "times has to be a whole number"),
        (Gaussian, (1.0, 1.5), "times"),
        (SampledGaussian, (0.0, 1.0, 1), "rate"),
        (SampledGaussian, (1.1, 1.0, 1), "rate"),
        (SampledGaussian, (0.5, 0.0, 1), "multiplier"),
        (SampledGaussian, (0.5, 1.0, 0), "steps"),
        (SampledGaussian, (0.5, 1.0, 1, 0), "reach"),
    ],
)
def test_numbers_that_make_no_sense(kind, numbers, said):
    with pytest.raises(ValueError, match=said):
        kind(*numbers)


@pytest.mark.parametrize("budget", [(0.0,), (-1.0,), (math.nan,), (1.0, 0.0), (1.0, 1.0), (1.0, math.nan)])
def test_budgets_that_make_no_sense(budget):
    with pytest.raises(ValueError, match="has to be"):
        Budget(*budget)


@pytest.mark.parametrize("event", [Gaussian(2.0), TRAINED])
def test_an_event_counts_for_its_own_unit_alone(event):
    for unit in (Unit.READING, Unit.DAY, Unit.CUSTOMER):
        for other in (Unit.READING, Unit.DAY, Unit.CUSTOMER):
            assert counted(Spend(event, unit, ""), other) == (event if unit is other else Unprotected())


@pytest.mark.parametrize("unit", Unit)
def test_what_hides_a_participant_hides_everything(unit):
    assert counted(Spend(Gaussian(2.0), Unit.PARTICIPANT, ""), unit) == Gaussian(2.0)


@pytest.mark.parametrize("unit", Unit)
def test_training_for_a_participant_is_noise_over_twice_what_all_its_blocks_add(unit):
    """Two blocks of norm 1 can be two others: 4 apart, under noise of 4."""
    assert counted(Spend(TRAINED, Unit.PARTICIPANT, ""), unit) == Gaussian(1.0, 50)


@pytest.mark.parametrize("unit", Unit)
def test_what_is_free_or_open_is_so_for_every_unit(unit):
    for other in Unit:
        assert counted(Spend(Nothing(), other, ""), unit) == Nothing()
        assert counted(Spend(Unprotected(), other, ""), unit) == Unprotected()
