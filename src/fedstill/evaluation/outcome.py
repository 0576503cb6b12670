"""What a finished run knows about each participant and round: the raw material of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedstill.energy.heterogeneity import Profile
from fedstill.evaluation.schema import PrivacyReport
from fedstill.labels import Array


@dataclass(frozen=True, eq=False)
class Outcome:
    """One participant after a run, with its test truth and every prediction of it.

    Attributes
    ----------
    name:
        The participant's id.
    learner:
        The kind of its local model.
    kept:
        What it keeps: "floor", "own", "distilled" or "blend".
    weights:
        Weights of the kept blend, for example {"floor": 0.2, "own": 0.3, "distilled": 0.5}; they sum to 1.
    why:
        One sentence that says why this was kept.
    actual:
        Test truth, shape (n,): load in kW, or class indices.
    predictions:
        Name -> prediction of the test rows, shape (n, k), in the unit of `actual`. Always there: "floor",
        "local" (its own model alone) and "federated" (what it keeps). Perhaps there: "distilled",
        "local_safe" (the same careful choice made without the federation) and other named floors.
    time:
        Start of each row, datetime64 in UTC, shape (n,); None where rows have no time.
    block:
        What the bootstrap resamples, int, shape (n,): the local day, or the row's index.
    zone:
        IANA name of the local time zone, for showing times; None means UTC.
    bytes_up, bytes_down:
        Bytes it sent and received over all rounds.
    cpu_s:
        Processor seconds it spent on training and predicting.
    peak_memory_bytes:
        The most memory its work held at once.
    model_bytes:
        Size of its saved model.
    train_rows, left_out_rows:
        Private rows it learned from, and rows left out (gaps, missing inputs).
    notes:
        Anything else a reader should know about this participant.
    privacy:
        What has left it, and what that tells at most; None where nobody kept a ledger.
    profile:
        What the load of its history is like; None for other tasks. Private to the participant, like its test rows.
    """

    name: str
    learner: str
    kept: str
    weights: Mapping[str, float]
    why: str
    actual: Array
    predictions: Mapping[str, Array]
    time: Array | None
    block: Array
    zone: str | None
    bytes_up: int
    bytes_down: int
    cpu_s: float
    peak_memory_bytes: int
    model_bytes: int
    train_rows: int
    left_out_rows: int
    notes: tuple[str, ...] = ()
    profile: Profile | None = None
    privacy: PrivacyReport | None = None


@dataclass(frozen=True)
class RoundRecord:
    """One round as the coordinator saw it.

    Attributes
    ----------
    round:
        Its number.
    groups:
        Participants that taught each other, one tuple a group.
    answered:
        Participants whose answer counted.
    refused:
        Participant -> the reason why it did not answer, or why its answer did not count.
    bytes_up, bytes_down:
        Bytes of all answers and of all teachers.
    closed:
        "complete", "deadline" or "quorum missed".
    validation_loss:
        Participant -> the loss, on its watched fold, of a distilled model that has not seen it, after this round. This
        is private to the participant; only a run on one machine can show it.
    """

    round: int
    groups: tuple[tuple[str, ...], ...]
    answered: tuple[str, ...]
    refused: Mapping[str, str]
    bytes_up: int
    bytes_down: int
    closed: str
    validation_loss: Mapping[str, float]
