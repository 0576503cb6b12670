"""The shape of `report.json`; `docs/reference/report.md` explains it key by key.

A key may be added without a new `SCHEMA_VERSION`; one that changes its meaning or goes away needs it.
Numbers that are not defined are null: JSON knows neither NaN nor infinity.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

SCHEMA_VERSION = 1

Number = float | None


class Columns(Struct, frozen=True, kw_only=True):
    """What a prediction's columns are: class names, or quantile levels."""

    space: str
    columns: list[str | float]


class Gain(Struct, frozen=True, kw_only=True):
    """The share of another way's loss that federation saves, with its 95 % bootstrap interval."""

    relative: Number
    low: Number
    high: Number


class ReleaseReport(Struct, frozen=True, kw_only=True):
    """One kind of release: how often, and the epsilon that it would cost alone; 0 is free, null is infinite."""

    what: str
    count: int
    epsilon: Number


class PrivacyReport(Struct, frozen=True, kw_only=True):
    """What has left a participant, and the differential privacy of all of it together."""

    mechanism: str
    noise: str
    unit: str
    epsilon: Number
    delta: float
    budget_epsilon: Number
    protected: bool
    released: list[ReleaseReport]


class ParticipantReport(Struct, frozen=True, kw_only=True):
    """One participant: what it kept, how good that is, and what it cost."""

    name: str
    learner: str
    kept: str
    why: str
    weights: dict[str, Number]
    metrics: dict[str, dict[str, Number]]
    gains: dict[str, dict[str, Gain]]
    test_rows: int
    train_rows: int
    left_out_rows: int
    bytes_up: int
    bytes_down: int
    cpu_s: Number
    peak_memory_bytes: int
    model_bytes: int
    notes: list[str]
    privacy: PrivacyReport | None = None


class RoundReport(Struct, frozen=True, kw_only=True):
    """One round as the coordinator saw it."""

    round: int
    groups: list[list[str]]
    answered: list[str]
    refused: dict[str, str]
    bytes_up: int
    bytes_down: int
    closed: str
    validation_loss: dict[str, Number]


class Communication(Struct, frozen=True, kw_only=True):
    """Everything that went over the wire, all participants and rounds together."""

    bytes_up: int
    bytes_down: int
    transfer_set_bytes: int


class Named(Struct, frozen=True, kw_only=True):
    """A participant and its value."""

    name: str
    value: float


class Comparison(Struct, frozen=True, kw_only=True):
    """How many participants do better with federation than in another way."""

    participants: int
    improved: int
    improved_share: Number
    no_worse: int
    no_worse_share: Number


class Fairness(Struct, frozen=True, kw_only=True):
    """Who gained and who paid."""

    metric: str
    tolerance: float
    worst: Named | None
    least_gain: Named | None
    against: dict[str, Comparison]
    jain_gain: Number


class Overall(Struct, frozen=True, kw_only=True):
    """The federation as a whole; every participant counts the same."""

    main_metrics: list[str]
    mean: dict[str, dict[str, Number]]
    gains: dict[str, dict[str, Gain]]
    resamples: int
    confidence: float
    fairness: Fairness


class SampleDay(Struct, frozen=True, kw_only=True):
    """One test day of one participant, in the unit of its loads."""

    time: list[str]
    actual: list[float]
    floor: list[float]
    local: list[float]
    federated: list[float]
    low: list[float]
    high: list[float]


class Sample(Struct, frozen=True, kw_only=True):
    """Days to look at, one from each eighth of a participant's test range, chosen blind to errors."""

    zone: str
    days: list[SampleDay]


class ReliabilityBin(Struct, frozen=True, kw_only=True):
    """Rows of all participants whose top probability lies in one bin."""

    count: int
    confidence: float
    accuracy: float


class ProfileReport(Struct, frozen=True, kw_only=True):
    """What one participant's load is like in its history; see `fedstill.energy.heterogeneity.Profile`."""

    level_kw: Number
    swing: Number
    load_factor: Number
    daily: list[float] | None
    weekly: list[float] | None
    weekend_ratio: Number
    season: list[float] | None
    season_amplitude: Number
    season_peak_month: Number
    heating_per_k: Number
    cooling_per_k: Number
    noise: Number
    strength: Number
    history_days: float


class HeterogeneityReport(Struct, frozen=True, kw_only=True):
    """How unlike the participants' loads are: the index, mean distance by factor, and what it was made of."""

    index: Number
    factors: dict[str, Number]
    participants: dict[str, ProfileReport]


class Report(Struct, frozen=True, kw_only=True):
    """A finished run."""

    schema_version: int = SCHEMA_VERSION
    task: str
    outputs: Columns
    started: str
    seconds: Number
    seed: int
    overall: Overall
    participants: list[ParticipantReport]
    rounds: list[RoundReport]
    communication: Communication
    settings: dict[str, Any]
    environment: dict[str, Any]
    samples: dict[str, Sample] = field(default_factory=dict)
    reliability: dict[str, list[ReliabilityBin]] = field(default_factory=dict)
    heterogeneity: HeterogeneityReport | None = None
