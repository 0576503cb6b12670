"""What the tests of the coordinator have in common: a plan for three, answers, and payloads that cannot be used."""

from __future__ import annotations

import numpy as np

from fedstill.algorithms.fedmd import fedmd
from fedstill.codecs.raw import Raw
from fedstill.labels import Release, SoftLabels, Space
from fedstill.messages import Answer
from fedstill.round import Coordinator, Plan, Received, Started
from fedstill.testing.fakes import QUANTILES, START, soft

RAW, ABC = Raw(), ("a", "b", "c")
PLAN = Plan(ABC, QUANTILES, n_items=2, rounds=2, quorum=2, deadline_s=10.0, patience=2)
COORDINATOR = Coordinator(PLAN, fedmd(), RAW)
NAN = float("nan")


def answer(sender, number=0, sent_in=1):
    """An answer that says the same number everywhere."""
    return Answer(sent_in, sender, RAW.encode(Release(soft(QUANTILES, [number, number]))))


def play(coordinator, *events):
    """The last state and all effects."""
    state, seen = coordinator.start(), []
    for event in events:
        state, effects = coordinator.step(state, event)
        seen += effects
    return state, seen


def of(kind, effects):
    return [effect for effect in effects if isinstance(effect, kind)]


def heard(*replies, now=0.0):
    return [Started(now), *(Received(reply, now) for reply in replies)]


def release(values, weight=None, items=None, space=Space.QUANTILES, **more):
    values = np.asarray(values, np.float32)
    items = np.arange(len(values)) if items is None else items
    return RAW.encode(Release(SoftLabels.of(items, values, space, weight), **more))


ROW, INF = [0, 1, 2], float("inf")
GOOD = release([ROW, ROW])
BAD = {
    "nothing": (b"", "malformed: not packed arrays"),
    "noise": (b"FSa1" + bytes(range(60)), "malformed: the header is cut off"),
    "cut off": (GOOD[:-1], "malformed: array 'values' is cut off"),
    "longer": (GOOD + b"\0", "malformed: 1 bytes follow"),
    "too large": (b"\0" * 2001, "its 2001 bytes are over the bound of 2000"),
    "too few rows": (release([ROW]), "of shape (1, 3), expected quantiles of shape (2, 3)"),
    "too many rows": (release([ROW] * 3), "of shape (3, 3), expected"),
    "too few columns": (release([[0, 1], [0, 1]]), "of shape (2, 2), expected"),
    "another space": (release([[0.2, 0.3, 0.5]] * 2, space=Space.PROBABILITIES), "it holds probabilities of shape"),
    "nan": (release([ROW, [0, NAN, 2]]), "not finite"),
    "infinite": (release([ROW, [0, 1, INF]]), "not finite"),
    "nan weight": (release([ROW, ROW], weight=[1, NAN]), "not finite"),
    "infinite weight": (release([ROW, ROW], weight=[1, INF]), "not finite"),
    "negative weight": (release([ROW, ROW], weight=[1, -1]), "negative weights"),
    "too large a weight": (release([ROW, ROW], weight=[1, 1.5]), "weights above 1"),
    "crossing": (release([ROW, [0, 2, 1]]), "its quantiles cross"),
    "other items": (release([ROW, ROW], items=[0, 2]), "not about the items"),
    "items twice": (release([ROW, ROW], items=[0, 0]), "not about the items"),
    "items turned": (release([ROW, ROW], items=[1, 0]), "not about the items"),
    "a count": (release([ROW, ROW], count=7), "number of rows is not as the recipe asks"),
    "a negative count": (release([ROW, ROW], count=-7), "number of rows is not as the recipe asks"),
    "a score": (release([ROW, ROW], score=0.5), "held-out loss is not as the recipe asks"),
    "nothing said": (RAW.encode(Release()), "no soft labels, or more"),
    "parameters": (RAW.encode(Release(parameters=START)), "no soft labels, or more"),
    "both": (RAW.encode(Release(soft(QUANTILES, [0, 0]), START)), "no soft labels, or more"),
}
