"""Model folders: what is read back predicts the same, and what is not a model is refused as data."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedstill import Classification, Federation, Forecast, Member, models
from fedstill.calibrate import Stretch
from fedstill.energy.synthetic import sites
from fedstill.errors import DataError
from fedstill.keep import Kept
from fedstill.models import Model
from fedstill.plugins import resolve
from fedstill.sites import Floor
from fedstill.tasks.base import Scaling

TASK = Forecast(levels=(0.1, 0.5, 0.9), issue_hour=12, naive="mixed", country="DE")
QUICK: dict[str, dict[str, Any]] = {
    "hist_gradient_boosting": {"rounds": 3},
    "extra_trees": {"trees": 3},
    "mlp": {"hidden": [4], "epochs": 1},
    "linear": {"iterations": 5},
    "sklearn": {"estimator": "sklearn.linear_model:Ridge"},
    "lightgbm": {"rounds": 3},
    "xgboost": {"rounds": 3},
}
F = len(TASK.features)
X = np.random.default_rng(0).normal(3, 2, (60, F)).astype(np.float32)


def made(learner: str = "linear", kept: str = "blend", stretch: Stretch | None = None) -> Model:
    """A model that keeps a blend, with everything it needs and nothing else."""
    weights = {"blend": {"distilled": 0.5, "own": 0.25, "floor": 0.25}}.get(kept, {kept: 1.0})
    kind = resolve("learners", learner)
    trained = {
        name: kind(TASK.outputs, seed, **QUICK[learner]).fit((X - 3) / 2, X[:, seed])
        for seed, name in enumerate(weights)
        if name != "floor"
    }
    return Model(
        party="plant a",
        learner=learner,
        task=TASK,
        kept=Kept(kept, weights, "because", stretch),
        floor=Floor((-1.0, 0.0, 1.5)),
        scaling=Scaling(np.full(F, 3, np.float32), np.full(F, 2, np.float32)),
        scale=123.456,
        zone="Europe/Berlin",
        learners=trained,
    )


@pytest.mark.parametrize("learner", QUICK)
def test_what_is_read_back_predicts_the_same(learner: str, tmp_path: Path) -> None:
    if learner in ("lightgbm", "xgboost"):
        pytest.importorskip(learner)
    model = made(learner)
    size = models.save(tmp_path / "a", model)
    read = models.load(tmp_path / "a")
    assert read.predict(X).tobytes() == model.predict(X).tobytes()
    for field in ("party", "learner", "task", "kept", "floor", "scale", "zone"):
        assert getattr(read, field) == getattr(model, field)
    files = [file for file in (tmp_path / "a").rglob("*") if file.is_file()]
    assert size == sum(file.stat().st_size for file in files if file.name != "model.json") > 0


@pytest.mark.parametrize("kept", ["own", "distilled", "floor"])
def test_only_what_is_kept_is_stored(kept: str, tmp_path: Path) -> None:
    models.save(tmp_path / "a", made(kept=kept))
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"model.json"} | ({kept} - {"floor"})
    read = models.load(tmp_path / "a")
    assert read.predict(X).tobytes() == made(kept=kept).predict(X).tobytes()
    if kept == "floor":
        assert read.predict(X[:2]).tolist() == [[-1.0, 0.0, 1.5]] * 2


def test_a_blend_is_the_weighted_mean_of_its_parts() -> None:
    model = made()
    scaled = (X - 3) / 2
    parts = 0.5 * model.learners["distilled"].predict(scaled) + 0.25 * model.learners["own"].predict(scaled)
    assert model.predict(X) == pytest.approx(parts + 0.25 * np.array([-1.0, 0.0, 1.5]), abs=1e-5)


def test_a_stretch_is_stored(tmp_path: Path) -> None:
    """The floor says -1, 0, 1.5; twice as far below the median and half as far above it are -2, 0, 0.75."""
    models.save(tmp_path / "a", made(kept="floor", stretch=Stretch((2.0, 1.0, 0.5), 1)))
    assert models.load(tmp_path / "a").predict(X[:2]).tolist() == [[-2, 0, 0.75]] * 2
    model = made(stretch=Stretch((1 / 3, 1.0, 1.1), 1))
    models.save(tmp_path / "b", model)
    read = models.load(tmp_path / "b")
    assert read.kept == model.kept
    assert read.predict(X).tobytes() == model.predict(X).tobytes() != made().predict(X).tobytes()


def test_a_model_without_a_stretch_is_as_it_is(tmp_path: Path) -> None:
    models.save(tmp_path / "a", made())
    told(lambda model: model["kept"].pop("stretch"))(tmp_path / "a")
    read = models.load(tmp_path / "a")
    assert read.kept.stretch is None
    assert read.predict(X).tobytes() == made().predict(X).tobytes()


def test_the_floor_s_rule_reads_inputs_on_the_public_scale(tmp_path: Path) -> None:
    """It was scaled with the site (`Prepared.scaled`): twice the first input, whatever that is measured in."""
    model = made(kept="floor")
    floor = Floor((-1.0, 0.0, 1.5), "twice the first", {0: 2.0})
    scaled = floor.scaled(model.scaling.centre, model.scaling.spread)
    models.save(tmp_path / "a", replace(model, floor=scaled))
    by_hand = 2 * X[:, :1] + np.array([-1.0, 0.0, 1.5])
    assert models.load(tmp_path / "a").predict(X) == pytest.approx(by_hand, abs=1e-4)


def test_what_a_federation_kept_is_stored_as_it_was_judged(tmp_path: Path) -> None:
    """Every model read back gives the 90 % interval of the report, to the byte, from inputs as the task makes them."""
    task = Forecast(
        levels=(0.05, 0.5, 0.95), naive="week", test=("2016-03-01", "2016-03-08"), companions=()
    )  # all models start from last week, so that the floor is another rule for some
    *own, public = sites(5, days=70).values()
    span = ("2016-01-10", "2016-02-25")
    members = [Member(name, site, "linear", QUICK["linear"], span) for name, site in zip("abcd", own, strict=True)]
    history = Federation(task, members, public, items=120).run(tmp_path)
    read = {one.name: models.load(tmp_path / "models" / one.name) for one in members}
    for member, outcome in zip(members, history.outcomes, strict=True):
        exam = task.prepare(member.name, member.data, span).examination
        said = exam.restore(read[member.name].predict(exam.X))
        assert said.tobytes() == outcome.predictions["federated"].tobytes()
    assert all(one.kept.stretch and one.kept.stretch.factors != (1, 1, 1) for one in read.values())
    assert any(one.floor.slopes and "floor" in one.kept.weights for one in read.values())


@pytest.mark.parametrize("learner", ["extra_trees", "mlp", "sklearn"])
def test_no_pickle_is_written(learner: str, tmp_path: Path) -> None:
    """A pickle starts with the byte 0x80 and a protocol number; inside an archive nothing may either."""
    models.save(tmp_path / "a", made(learner))
    for file in (tmp_path / "a").rglob("*"):
        if file.is_file():
            contents = [file.read_bytes()]
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    contents += [archive.read(name) for name in archive.namelist()]
            assert not any(content[:1] == b"\x80" and content[1:2] <= b"\x05" for content in contents), file
            assert file.suffix not in (".pkl", ".pickle", ".joblib")


def test_a_new_model_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    models.save(tmp_path / "a", made())
    models.save(tmp_path / "a", made(kept="own"))
    assert models.load(tmp_path / "a").kept.name == "own"
    assert not (tmp_path / "a" / "distilled").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_model_that_cannot_be_written_leaves_the_older_one(tmp_path: Path) -> None:
    class Full:
        def save(self, folder: Path) -> None:
            (folder / "half").write_bytes(b"half")
            raise OSError(28, "No space left on device")

    models.save(tmp_path / "a", made())
    with pytest.raises(OSError, match="No space"):
        models.save(tmp_path / "a", replace(made(), learners={"own": Full()}))  # type: ignore[dict-item]
    assert models.load(tmp_path / "a").predict(X).tobytes() == made().predict(X).tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_names_that_look_like_ours_are_left_alone(tmp_path: Path) -> None:
    for name in ("a.new", "a", "new", ".a"):
        models.save(tmp_path / name, replace(made(kept="floor"), party=name))
    assert [models.load(tmp_path / name).party for name in ("a.new", "a", "new", ".a")] == ["a.new", "a", "new", ".a"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def told(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "model.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    return damage


def stretched(factors: list[Any], median: int = 1) -> Callable[[Path], None]:
    return told(lambda model: model["kept"].update(stretch={"factors": factors, "median": median}))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no model.json": (lambda folder: (folder / "model.json").unlink(), "no model is here"),
    "cut model.json": (lambda folder: cut(folder / "model.json"), "damaged"),
    "empty model.json": (lambda folder: (folder / "model.json").write_bytes(b""), "damaged"),
    "not text": (lambda folder: (folder / "model.json").write_bytes(b"\xff\xfe{}"), "damaged"),
    "another JSON": (lambda folder: (folder / "model.json").write_bytes(b"[1, 2]"), "damaged"),
    "deep JSON": (lambda folder: (folder / "model.json").write_bytes(b"[" * 100_000), "damaged"),
    "newer": (told(lambda model: model.update(format=2, invention=1)), "the model has format 2, this version reads 1"),
    "other format": (told(lambda model: model.update(format="x")), "damaged"),
    "unknown key": (told(lambda model: model.update(trick=1)), "damaged"),
    "missing key": (told(lambda model: model.pop("scale")), "damaged"),
    "unknown task": (told(lambda model: model.update(task="chess")), "there is no task 'chess'"),
    "unknown learner": (told(lambda model: model.update(learner="oracle")), "there is no learner 'oracle'"),
    "other learner": (told(lambda model: model.update(learner="extra_trees")), "damaged"),
    "bad setting": (told(lambda model: model["settings"].update(issue_hour=99)), "issue hour 99"),
    "bad path": (told(lambda model: model["kept"].update(weights={"../../x": 1.0})), r"made of \.\./\.\./x"),
    "nothing kept": (told(lambda model: model["kept"].update(weights={})), "made of nothing"),
    "short scale": (told(lambda model: model["centre"].pop()), "scale"),
    "zero scale": (told(lambda model: model["spread"].__setitem__(0, 0)), "scale"),
    "short floor": (told(lambda model: model["floor"].update(values=[1.0])), "floor"),
    "short stretch": (stretched([1.0, 1.0]), "stretch"),
    "long stretch": (stretched([1.0, 1.0, 1.0, 1.0]), "stretch"),
    "negative stretch": (stretched([-0.1, 1.0, 1.0]), "stretch"),
    "endless stretch": (stretched([float("inf"), 1.0, 1.0]), "damaged"),
    "stretch of no number": (stretched([None, 1.0, 1.0]), "damaged"),
    "stretch around a quantile": (stretched([1.0, 1.0, 1.0], 0), "stretch"),
    "stretch around nothing": (stretched([1.0, 1.0, 1.0], 3), "stretch"),
    "stretch from behind": (stretched([1.0, 1.0, 1.0], -2), "stretch"),
    "other levels": (told(lambda model: model["settings"].update(levels=[0.2, 0.5, 0.8])), "something else"),
    "other inputs": (told(lambda model: model["settings"].update(country=None)), "scale"),
    "no learner": (lambda folder: [file.unlink() for file in (folder / "own").iterdir()], "damaged"),
    "no folder": (lambda folder: (folder / "own").rename(folder / "his"), "damaged"),
    "cut learner": (lambda folder: [cut(file) for file in (folder / "own").iterdir()], "damaged"),
    "swapped learner": (lambda folder: [file.write_bytes(b"x" * 99) for file in (folder / "own").iterdir()], "damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_whole_model_is_refused(damage: str, tmp_path: Path) -> None:
    do, message = DAMAGES[damage]
    models.save(tmp_path / "a", made())
    do(tmp_path / "a")
    with pytest.raises(DataError, match=message) as caught:
        models.load(tmp_path / "a")
    assert caught.value.where == str(tmp_path / "a")
    assert caught.value.remedy


def test_probabilities_cannot_be_stretched(tmp_path: Path) -> None:
    model = made(kept="floor")
    classes = replace(
        model,
        task=Classification("state", ("off", "fault", "on"), TASK.features),
        floor=Floor((0.5, 0.25, 0.25)),
        kept=Kept("floor", {"floor": 1.0}, "because"),
    )
    models.save(tmp_path / "a", classes)
    assert models.load(tmp_path / "a").predict(X[:1]).tolist() == [[0.5, 0.25, 0.25]]
    stretched([1.0, 1.0, 1.0])(tmp_path / "a")
    with pytest.raises(DataError, match="stretch is not that of its outputs"):
        models.load(tmp_path / "a")


@pytest.mark.parametrize("place", ["nowhere", "file"])
def test_what_is_no_folder_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match="no model is here"):
        models.load(tmp_path / place)
