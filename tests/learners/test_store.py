"""Models on disk: what is refused, and that nothing a file names is run."""

from __future__ import annotations

import hashlib
import json
import zipfile

import numpy as np
import pytest
from skops import io

from fedstill.errors import LearnerError
from fedstill.labels import Outputs, Space
from fedstill.learners.lightgbm import LightGBM
from fedstill.learners.networks import MLP, Linear
from fedstill.learners.sklearn import ExtraTrees, HistGradientBoosting
from fedstill.learners.store import read_arrays, read_card
from fedstill.testing.learners import CLASSES, QUANTILES, rows

KINDS = {"linear": Linear, "mlp": MLP, "extra_trees": ExtraTrees, "lightgbm": LightGBM}


def stored(folder, learner):
    learner.fit(*rows(QUANTILES)).save(folder)
    return folder


def rewrite(folder, **changes):
    """Change the card as somebody would who knows its form; the sums of the files are made right again."""
    card = json.loads((folder / "learner.json").read_text())
    sums = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "learner.json"
    }
    (folder / "learner.json").write_text(json.dumps({**card, "sha256": sums, **changes}))


@pytest.mark.parametrize(
    "learner",
    [Linear(QUANTILES, 5, decay=2.0), ExtraTrees(QUANTILES, 6, trees=3), LightGBM(QUANTILES, 7, rounds=4)],
    ids=lambda learner: learner.kind,
)
def test_the_card_tells_the_kind(learner, tmp_path):
    stored(tmp_path, learner)
    card = read_card(tmp_path)
    assert (card.kind, card.outputs, card.seed, card.n_features) == (learner.kind, QUANTILES, learner.seed, 6)
    loaded = KINDS[read_card(tmp_path).kind].load(tmp_path)
    assert type(loaded) is type(learner)
    assert loaded.options == learner.options


def test_a_model_of_another_kind_is_refused(tmp_path):
    stored(tmp_path, Linear(QUANTILES))
    with pytest.raises(LearnerError, match="of kind 'linear', not 'mlp'"):
        MLP.load(tmp_path)


def test_models_do_not_mix(tmp_path):
    stored(tmp_path, Linear(QUANTILES))
    with pytest.raises(LearnerError, match="not empty"):
        stored(tmp_path, Linear(QUANTILES))
    with pytest.raises(LearnerError, match="no such folder"):
        stored(tmp_path / "missing", Linear(QUANTILES))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"kind": ["linear"]}, "damaged"),
        ({"n_features": "6"}, "damaged"),
        ({"n_features": 0}, "damaged"),
        ({"outputs": {"space": "colours", "columns": []}}, "damaged"),
        ({"outputs": {"space": "quantiles", "columns": ["a", "b"]}}, "cannot be read"),
        ({"outputs": {"space": "quantiles", "columns": [0.9, 0.1]}}, "cannot be read"),
        ({"outputs": None}, "damaged"),
        ({"options": {"no_such": 1}}, "no option 'no_such'"),
        ({"options": 3}, "damaged"),
        ({"seed": "x"}, "seed"),
        ({"n_features": 5}, "the shape"),
        ({"sha256": {}}, "not those that were saved"),
    ],
)
def test_a_doctored_card_is_refused(tmp_path, changes, message):
    stored(tmp_path, Linear(QUANTILES))
    rewrite(tmp_path, **changes)
    with pytest.raises(LearnerError, match=message):
        Linear.load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"format": 1}', "[" * 100_000, "\ud800"])
def test_rubbish_is_no_card(tmp_path, text):
    (tmp_path / "learner.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(LearnerError):
        Linear.load(tmp_path)


@pytest.mark.parametrize("k", [2, 3])
def test_boosted_classes_are_stored(tmp_path, k):
    """Two classes have a loss of their own in scikit-learn, so other types are in the file."""
    outputs = Outputs(Space.PROBABILITIES, tuple("abc"[:k]))
    X, y = rows(CLASSES)
    learner = HistGradientBoosting(outputs, rounds=3).fit(X, y % k)
    learner.save(tmp_path)
    assert HistGradientBoosting.load(tmp_path).predict(X).tobytes() == learner.predict(X).tobytes()


def test_an_added_file_is_noticed(tmp_path):
    stored(tmp_path, Linear(QUANTILES))
    (tmp_path / "more.txt").write_text("more")
    with pytest.raises(LearnerError, match="not those that were saved"):
        Linear.load(tmp_path)


@pytest.mark.parametrize("learner", [Linear, ExtraTrees, LightGBM], ids=lambda kind: kind.kind)
def test_rubbish_with_right_sums_is_refused(tmp_path, learner):
    stored(tmp_path, learner(QUANTILES))
    for path in tmp_path.glob("model*"):
        path.write_bytes(b"rubbish")
    rewrite(tmp_path)
    with pytest.raises(LearnerError):
        learner.load(tmp_path)


def test_a_foreign_type_is_not_loaded(tmp_path):
    """A file of skops whose schema names a function to be called instead of a tree."""
    stored(tmp_path, ExtraTrees(QUANTILES, trees=2))
    path, witness = tmp_path / "model.skops", tmp_path.parent / "witness"
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    schema = members["schema.json"].replace(b'"sklearn.tree._tree"', b'"os"').replace(b'"Tree"', b'"mkdir"')
    assert schema != members["schema.json"]
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {**members, "schema.json": schema}.items():
            file.writestr(name, content)
    rewrite(tmp_path)
    with pytest.raises(LearnerError, match="trusted"):
        ExtraTrees.load(tmp_path)
    assert not witness.exists()


def test_a_state_that_is_none_is_refused(tmp_path):
    stored(tmp_path, ExtraTrees(QUANTILES, trees=2))
    (tmp_path / "model.skops").write_bytes(io.dumps([1, 2]))
    rewrite(tmp_path)
    with pytest.raises(LearnerError, match="does not hold a model's state"):
        ExtraTrees.load(tmp_path)


def test_arrays_of_objects_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", bad=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_arrays(tmp_path / "x.npz")
