"""A made-up run, big enough to look like a real one: 12 sites, a year of hours, 3 rounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from fedstill.evaluation.outcome import Outcome, RoundRecord
from fedstill.evaluation.schema import Report
from fedstill.evaluation.summary import build_report
from fedstill.labels import Array, Outputs, Space

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
NORMAL = np.array([-1.645, -0.674, 0.0, 0.674, 1.645])
SITES = (
    "Dairy", "Cold store", "Town hall", "Swimming pool", "Secondary school", "Bakery",
    "Waterworks", "Office park", "Hospital", "Joinery", "Greenhouse", "Supermarket",
)  # fmt: skip
LEARNERS = ("lightgbm", "network", "forest", "xgboost")


@dataclass(frozen=True)
class Run:
    """What `build_report` takes, with the report."""

    outcomes: list[Outcome]
    rounds: list[RoundRecord]
    outputs: Outputs
    report: Report


def outcome(name: str, actual: Array, predictions: dict[str, Array], **given: object) -> Outcome:
    """An outcome with dull values for all that a test does not ask about."""
    rest: dict[str, object] = {
        "learner": "forest", "kept": "blend", "weights": {"floor": 0.25, "own": 0.25, "distilled": 0.5},
        "why": "the blend has the least validation loss", "time": None, "block": np.arange(len(actual)),
        "zone": None, "bytes_up": 1000, "bytes_down": 2000, "cpu_s": 1.5, "peak_memory_bytes": 10**8,
        "model_bytes": 50_000, "train_rows": 900, "left_out_rows": 3, "notes": (),
    }  # fmt: skip
    return Outcome(name=name, actual=actual, predictions=predictions, **(rest | given))  # type: ignore[arg-type]


def report_of(outcomes: list[Outcome], rounds: list[RoundRecord], outputs: Outputs, **given: object) -> Report:
    """`build_report` with dull values for the rest."""
    rest: dict[str, object] = {
        "settings": {"rounds": 3, "aggregate": {"kind": "median"}}, "environment": {"python": "3.12.1"},
        "seed": 7, "transfer_set_bytes": 1_843_200, "started": "2025-03-01T08:00:00Z", "seconds": 312.4,
        "task": "forecast",
    }  # fmt: skip
    return build_report(outcomes, rounds, outputs, **(rest | given))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def run() -> Run:
    """A load forecast of 12 sites; the eleventh loses by federation."""
    rng = np.random.default_rng(20250301)
    hours = np.datetime64("2023-12-31T23", "s") + np.arange(365 * 24) * np.timedelta64(3600, "s")
    outcomes = [_site(rng, index, name, hours) for index, name in enumerate(SITES)]
    rounds = [_round(rng, number) for number in (1, 2, 3)]
    outputs = Outputs(Space.QUANTILES, LEVELS)
    return Run(outcomes, rounds, outputs, report_of(outcomes, rounds, outputs))


def _site(rng: np.random.Generator, index: int, name: str, hours: Array) -> Outcome:
    local = pd.DatetimeIndex(hours).tz_localize("UTC").tz_convert("Europe/Berlin")
    hour, day = local.hour.to_numpy(), local.day_of_year.to_numpy() - 1
    size = 40.0 * 1.6**index / (1 + index % 3)
    work = np.where(day % 7 < 5, 1.0, 0.35 if index % 2 else 0.8)
    shape = 0.45 + work * np.exp(-(((hour - 13 + index % 4) / 4.5) ** 2))
    season = 1 + 0.25 * np.cos(2 * np.pi * (day - 15) / 365) * (-1) ** (index == 10)
    wander = _smooth(rng, 366)[day]
    truth = size * season * shape * (1 + 0.10 * wander) * (1 + 0.04 * rng.standard_normal(len(hours)))

    def forecast(spread: float, bias: float) -> Array:
        error = 0.7 * rng.standard_normal(366)[day] + 0.6 * _smooth(rng, len(hours))
        median = truth * (1 + bias + spread * error)
        return np.sort(median[:, None] * (1 + 1.05 * spread * NORMAL), axis=1).astype(np.float32)

    alone = 0.09 + 0.012 * (index * 5 % 12)
    taught = alone * (1.12 if index == 10 else 0.98 - 0.035 * (index % 6))
    own = forecast(alone, 0.01)
    keeps_own = index == 6  # what it keeps is then its own model, number by number
    predictions = {
        "floor": forecast(0.155 + 0.01 * (index % 5), 0.0),
        "local": own,
        "local_safe": forecast(alone * 0.96, 0.005),
        "distilled": forecast(taught * 1.03, 0.0),
        "federated": own if keeps_own else forecast(taught, 0.0),
        "naive_week": forecast(0.2, 0.0),
    }
    return outcome(
        name, truth, predictions, time=hours, block=day, zone="Europe/Berlin", learner=LEARNERS[index % 4],
        kept="own" if keeps_own else ("blend", "distilled", "blend", "blend")[index % 4],
        weights={"floor": 0.1 * (not keeps_own), "own": 0.3 + 0.7 * keeps_own, "distilled": 0.6 * (not keeps_own)},
        bytes_up=480_000 + 1000 * index, bytes_down=960_000, cpu_s=4.0 + 3.1 * index, train_rows=1008,
        left_out_rows=5 * index, model_bytes=120_000 * (1 + index % 4),
        notes=("two gaps of a day in March",) if index == 4 else (),
    )  # fmt: skip


def _smooth(rng: np.random.Generator, n: int) -> Array:
    """Noise with a memory of some steps and a standard deviation near 1."""
    return np.convolve(rng.standard_normal(n + 6), np.ones(7) / np.sqrt(7), mode="valid")


def _round(rng: np.random.Generator, number: int) -> RoundRecord:
    refused = {"Hospital": "no answer before the deadline"} if number == 2 else {}
    cut = (4, 8) if number < 3 else (5, 12)
    groups = tuple(g for g in (SITES[: cut[0]], SITES[cut[0] : cut[1]], SITES[cut[1] :]) if g)
    loss = {name: 3.0 * 1.3**i * (1 - 0.08 * number + 0.03 * rng.random()) for i, name in enumerate(SITES)}
    return RoundRecord(
        round=number,
        groups=groups,
        answered=tuple(name for name in SITES if name not in refused),
        refused=refused,
        bytes_up=1_900_000 + 30_000 * number,
        bytes_down=3_840_000,
        closed="deadline" if refused else "complete",
        validation_loss=loss,
    )


@pytest.fixture(scope="session")
def class_run() -> Run:
    """A classification of 6 participants with 3 classes."""
    rng = np.random.default_rng(5)
    outputs = Outputs(Space.PROBABILITIES, ("empty", "half", "full"))

    def believe(truth: Array, skill: float, sharpness: float) -> Array:
        right = np.eye(3)[truth]
        score = sharpness * (skill * right + rng.standard_normal((len(truth), 3)))
        odds = np.exp(score)
        return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)

    outcomes = []
    for index in range(6):
        truth = rng.integers(0, 3, 600)
        skills = {"floor": 0.2, "local": 1.0 + 0.1 * index, "local_safe": 1.1 + 0.1 * index, "federated": 1.9}
        predictions = {name: believe(truth, skill, 1.6) for name, skill in skills.items()}
        outcomes.append(outcome(f"site {index}", truth, predictions))
    names = tuple(o.name for o in outcomes)
    rounds = [RoundRecord(n, (names,), names, {}, 6000, 12000, "complete", dict.fromkeys(names, 1 / n)) for n in (1, 2)]
    return Run(outcomes, rounds, outputs, report_of(outcomes, rounds, outputs, task="classification"))
