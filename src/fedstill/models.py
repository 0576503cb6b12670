"""A participant's kept model as a folder: everything that a forecast from new data needs, without pickle.

The folder holds::

    model.json      what it is: task, scales, the kept blend, the floor
    own/            its own model, where the blend uses it
    distilled/      the model that learned from the federation, where the blend uses it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np

from fedstill import plugins
from fedstill.calibrate import Stretch
from fedstill.errors import DataError, FedstillError, MissingExtra
from fedstill.keep import Kept
from fedstill.labels import Array, Outputs, Space
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
        The floor of the site, for inputs on the public scale.
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
        return self.kept.blend({**said, "floor": self.floor.predict(scaled)})


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


class _Version(msgspec.Struct):
    format: int


def save(folder: Path, model: Model) -> int:
    """Write a model folder, in place of an older one of the same name; returns the learners' size in bytes.

    The older one is there until the new one is whole.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".") as beside:
        new = Path(beside) / "new"
        new.mkdir()
        for name, learner in model.learners.items():
            (new / name).mkdir()
            learner.save(new / name)
        size = sum(file.stat().st_size for file in new.rglob("*") if file.is_file())
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
        if folder.exists():
            folder.rename(Path(beside) / "old")
        new.rename(folder)
    return size


def load(folder: Path | str) -> Model:
    """Read a model folder.

    Raises
    ------
    DataError
        Where the folder holds no model, or a damaged one, or one of a later version.
    MissingExtra
        Where the library of its learner is not installed.
    """
    folder = Path(folder)
    try:
        data = (folder / "model.json").read_bytes()
    except OSError:
        raise DataError(
            "no model is here", where=str(folder), remedy="Give a folder below models/ of a finished run"
        ) from None
    try:
        found = msgspec.json.decode(data, type=_Version).format
        model = _model(folder, msgspec.json.decode(data, type=_Stored)) if found == FORMAT else None
    except MissingExtra:
        raise
    # ValueError covers msgspec's own errors, and bytes that are no UTF-8.
    except (FedstillError, ValueError, RecursionError) as error:
        raise DataError(
            f"the model is damaged ({error})", where=str(folder), remedy="Run the federation again"
        ) from None
    if model is None:
        raise DataError(
            f"the model has format {found}, this version reads {FORMAT}",
            where=str(folder),
            remedy="Use the version of fedstill that wrote it",
        )
    return model


def _model(folder: Path, stored: _Stored) -> Model:
    """What was stored. Raises ValueError or FedstillError where its parts do not fit each other."""
    task: Task = msgspec.convert(stored.settings, plugins.resolve("tasks", stored.task))
    names = stored.kept.weights.keys()
    if not names or not names <= {"distilled", "own", "floor"}:
        raise ValueError(f"it is made of {', '.join(names) or 'nothing'}")
    if not len(stored.centre) == len(stored.spread) == len(task.features) or 0 in stored.spread:
        raise ValueError("its scale is not that of its inputs")
    if len(stored.floor.values) != len(task.outputs):
        raise ValueError("its floor is not that of its outputs")
    if stored.kept.stretch is not None and not _fits(stored.kept.stretch, task.outputs):
        raise ValueError("its stretch is not that of its outputs")
    family = plugins.resolve("learners", stored.learner)
    learners: dict[str, Learner] = {name: family.load(folder / name) for name in names if name != "floor"}
    if any(learner.outputs != task.outputs for learner in learners.values()):
        raise ValueError("its learners predict something else")
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


def _fits(stretch: Stretch, outputs: Outputs) -> bool:
    return (
        outputs.space is Space.QUANTILES
        and len(stretch.factors) == len(outputs)
        and stretch.median == outputs.median
        and all(0 <= factor < np.inf for factor in stretch.factors)
    )
