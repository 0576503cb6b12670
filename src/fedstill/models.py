"""A participant's kept model as a folder: everything that a forecast from new data needs, without pickle.

model.json      what it is: task, scales, the kept blend, the floor
own/            its own model, where the blend uses it
distilled/      the model that learned from the federation, where the blend uses it
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fedstill import plugins
from fedstill.errors import DataError, FedstillError
from fedstill.keep import Kept
from fedstill.labels import Array
from fedstill.learners.base import Learner
from fedstill.sites import Floor
from fedstill.tasks.base import Scaling, Task

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Model:
    """What a participant keeps.

    Attributes
    ----------
    party, learner:
        Whose it is, and the name of its learner.
    task:
        What it predicts.
    kept:
        The blend.
    floor:
        The floor of the site.
    scaling:
        The public scale of the inputs.
    scale:
        The site's scale: what an output of 1 is in the truth's unit.
    zone:
        The zone of the site's calendar; None where rows have no time.
    learners:
        The trained models by name.
    """

    party: str
    learner: str
    task: Task
    kept: Kept
    floor: Floor
    scaling: Scaling
    scale: float
    zone: str | None = None
    learners: Mapping[str, Learner] = field(default_factory=dict)

    def predict(self, X: Array) -> Array:
        """Outputs of the kept blend for inputs as the task makes them, shape (n, f) to (n, k)."""
        scaled = self.scaling.apply(X)
        said = {name: model.predict(scaled) for name, model in self.learners.items()}
        return self.kept.blend({**said, "floor": self.floor.predict(X)})


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    party: str
    learner: str
    task: str
    settings: dict[str, Any]
    kept: Kept
    floor: Floor
    centre: list[float]
    spread: list[float]
    scale: float
    zone: str | None


def save(folder: Path, model: Model) -> int:
    """Write a model folder, in place of an older one of the same name; returns the learners' size in bytes."""
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    for name, learner in model.learners.items():
        (new / name).mkdir(parents=True)
        learner.save(new / name)
    size = sum(file.stat().st_size for file in new.rglob("*") if file.is_file())
    new.mkdir(parents=True, exist_ok=True)
    stored = _Stored(
        FORMAT,
        model.party,
        model.learner,
        model.task.name,
        asdict(model.task),  # type: ignore[call-overload]
        model.kept,
        model.floor,
        model.scaling.centre.tolist(),
        model.scaling.spread.tolist(),
        model.scale,
        model.zone,
    )
    (new / "model.json").write_bytes(msgspec.json.format(msgspec.json.encode(stored)))
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)
    return size


def load(folder: Path) -> Model:
    """Read a model folder.

    Raises
    ------
    DataError
        Where the folder holds no model, or a damaged one, or one of a later version.
    """
    try:
        stored = msgspec.json.decode((folder / "model.json").read_bytes(), type=_Stored)
    except OSError:
        raise DataError(
            "no model is here", where=str(folder), remedy="Give a folder below models/ of a finished run"
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(
            f"model.json is damaged: {error}", where=str(folder), remedy="Run the federation again"
        ) from None
    if stored.format != FORMAT:
        raise DataError(
            f"the model has format {stored.format}, this version reads {FORMAT}",
            where=str(folder),
            remedy="Use the version of fedstill that wrote it",
        )
    kind = plugins.resolve("tasks", stored.task)
    try:
        task = msgspec.convert(stored.settings, kind)
        family = plugins.resolve("learners", stored.learner)
        learners = {name: family.load(folder / name) for name in stored.kept.weights if name != "floor"}
    except (msgspec.ValidationError, FedstillError) as error:
        raise DataError(
            f"the model is damaged: {error}", where=str(folder), remedy="Run the federation again"
        ) from None
    return Model(
        party=stored.party,
        learner=stored.learner,
        task=task,
        kept=stored.kept,
        floor=stored.floor,
        scaling=Scaling(np.asarray(stored.centre, np.float32), np.asarray(stored.spread, np.float32)),
        scale=stored.scale,
        zone=stored.zone,
        learners=learners,
    )
