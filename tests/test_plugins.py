"""Names and what they stand for: built in, of somebody else's package, unknown, or not installed."""

from __future__ import annotations

import importlib
import sys
from importlib.abc import MetaPathFinder
from importlib.metadata import entry_points

import numpy as np
import pandas as pd
import pytest

from fedstill import plugins
from fedstill.errors import ConfigError, MissingExtra
from fedstill.federation import Federation
from fedstill.learners.base import Learner
from fedstill.members import Member
from fedstill.tasks.classification import Classification
from fedstill.testing.fakes import CLASSES

THEIRS = '''
"""An algorithm, a learner and a codec in one file of somebody else's."""

import json
import zlib

import numpy as np

from fedstill.codecs.raw import Raw
from fedstill.errors import LearnerError, WireError
from fedstill.labels import Outputs, Space
from fedstill.messages import Recipe
from fedstill.strategy import Lesson, Strategy


def first(*, share: float = 0.5) -> Strategy:
    """Everyone learns from whoever comes first in the alphabet.

    And so on.
    """
    def teach(ballot):
        return Lesson(dict.fromkeys(ballot.parties, ballot.votes[0].release))

    return Strategy("first", teach, Recipe(share=share))


class Shares:
    """How often each class came up, whatever the inputs."""

    def __init__(self, outputs, seed=0, *, prior=1.0):
        self.outputs, self.seed, self.prior, self.shares = outputs, seed, prior, None

    def fit(self, X, y):
        counts = np.bincount(y, minlength=len(self.outputs)) + self.prior
        self.shares = counts / counts.sum()
        return self

    def predict(self, X):
        return np.tile(self.shares, (len(X), 1)).astype(np.float32)

    def distil(self, X, y, X_transfer, teacher, weight, share):
        own = self.fit(X, y).shares
        self.shares = (1 - share) * own + share * np.average(teacher, axis=0, weights=weight)
        return self

    def save(self, folder):
        stored = {"classes": list(self.outputs.columns), "shares": self.shares.tolist()}
        (folder / "shares.json").write_text(json.dumps(stored))

    @classmethod
    def load(cls, folder):
        try:
            stored = json.loads((folder / "shares.json").read_text())
        except (OSError, ValueError) as error:
            raise LearnerError(str(error)) from None
        learner = cls(Outputs(Space.PROBABILITIES, tuple(stored["classes"])))
        learner.shares = np.array(stored["shares"])
        return learner


class Squeezed:
    """Raw bytes, compressed."""

    def encode(self, release):
        return zlib.compress(Raw().encode(release), 9)

    def decode(self, payload):
        try:
            return Raw().decode(zlib.decompressobj().decompress(payload, 2**24))
        except zlib.error as error:
            raise WireError(str(error)) from None

'''

ENTRY_POINTS = """
[fedstill.algorithms]
first = theirs_for_fedstill:first
nowhere = theirs_for_fedstill:last
lost = a_module_nobody_has:method
needy = needy_for_fedstill:method

[fedstill.learners]
shares = theirs_for_fedstill:Shares

[fedstill.codecs]
squeezed = theirs_for_fedstill:Squeezed
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Somebody else's distribution, as pip would have laid it down."""
    (tmp_path / "theirs_for_fedstill.py").write_text(THEIRS)
    (tmp_path / "needy_for_fedstill.py").write_text("import a_library_nobody_has.part\n")
    info = tmp_path / "theirs_for_fedstill-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs-for-fedstill\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert "first" in entry_points(group="fedstill.algorithms").names
    yield
    for name in ("theirs_for_fedstill", "needy_for_fedstill"):
        sys.modules.pop(name, None)


def table(seed, n=80):
    random = np.random.default_rng(seed)
    kw = random.normal(size=n)
    return pd.DataFrame({"kw": kw, "state": np.where(kw > 0.3 * seed, "on", "off")})


def federation(**more):
    task = Classification(target="state", classes=("off", "on"), columns=("kw",), companions=())
    members = [Member(name, table(seed), "shares", {"prior": 2.0}) for seed, name in enumerate("abc")]
    return Federation(task, members, table(9), rounds=1, **more)


def test_one_file_elsewhere_brings_an_algorithm_a_learner_and_a_codec(theirs, tmp_path):
    """A federation of nothing but theirs runs to its end, and its models can be read again."""
    history = federation(strategy="first", options={"share": 1.0}, codec="squeezed").run(tmp_path / "out")
    assert [one.name for one in history.outcomes] == ["a", "b", "c"]
    assert history.rounds[0].answered == ("a", "b", "c")
    distilled = {one.name: one.predictions["distilled"][0] for one in history.outcomes}
    np.testing.assert_allclose(distilled["b"], distilled["a"], rtol=1e-6)  # all learned from a, and from a alone
    np.testing.assert_allclose(distilled["c"], distilled["a"], rtol=1e-6)
    assert not np.allclose(history.outcomes[1].predictions["local"], history.outcomes[0].predictions["local"])
    learner = plugins.resolve("learners", "shares")
    assert isinstance(learner(CLASSES), Learner)
    for stored in (tmp_path / "out").rglob("shares.json"):
        assert learner.load(stored.parent).shares.sum() == pytest.approx(1)


def test_their_codec_is_what_travels(theirs):
    """A table of one and the same row shrinks to a part of its size, up and down."""
    squeezed, raw = (federation(strategy="first", codec=codec).run() for codec in ("squeezed", "raw"))
    for one, other in zip(squeezed.outcomes, raw.outcomes, strict=True):
        assert one.bytes_up < other.bytes_up / 2
        assert one.bytes_down < other.bytes_down / 2
        np.testing.assert_array_equal(one.predictions["federated"], other.predictions["federated"])


def test_their_options_are_checked_like_ours(theirs):
    with pytest.raises(ConfigError, match=r"algorithm 'first' has no option 'shar'. Did you mean 'share'\?"):
        federation(strategy="first", options={"shar": 1.0})


def test_they_are_listed(theirs):
    """With the first line of their docstring; what cannot be imported says why, and hides nothing else."""
    told = plugins.summaries("algorithms")
    assert told["first"] == "Everyone learns from whoever comes first in the alphabet."
    assert told["needy"] == "Install it: pip install a_library_nobody_has"
    assert "nowhere" in told
    assert "lost" in told
    assert told["fedmd"].startswith("Everyone distils")


def test_entry_points_that_lead_nowhere(theirs):
    """A name or a module that is not there is their mistake; a library that they need is the user's to install."""
    with pytest.raises(ConfigError, match="algorithm 'nowhere' at theirs_for_fedstill:last cannot be imported"):
        plugins.resolve("algorithms", "nowhere")
    with pytest.raises(ConfigError, match="algorithm 'lost' at a_module_nobody_has:method cannot be imported"):
        plugins.resolve("algorithms", "lost")
    with pytest.raises(MissingExtra, match="'a_library_nobody_has', which is not installed"):
        plugins.resolve("algorithms", "needy")


@pytest.mark.parametrize(
    ("group", "name", "told"),
    [
        ("algorithms", "fedmdd", "there is no algorithm 'fedmdd'. Did you mean 'fedmd'? There are: "),
        ("learners", "light_gbm", "there is no learner 'light_gbm'. Did you mean 'lightgbm'? There are: committee"),
        ("codecs", "rawer", "there is no codec 'rawer'. Did you mean 'raw'? There are: raw"),
        ("tasks", "prophecy", "there is no task 'prophecy'. There are: classification, forecast"),
    ],
)
def test_unknown_names(group, name, told):
    with pytest.raises(ConfigError) as caught:
        plugins.resolve(group, name)
    assert str(caught.value).startswith(told)


def test_unknown_options():
    with pytest.raises(ConfigError) as caught:
        plugins.build("algorithms", "fedmd", {"aggregat": "mean"}, where="strategy")
    assert str(caught.value) == (
        "strategy: algorithm 'fedmd' has no option 'aggregat'. "
        "Did you mean 'aggregate'? There are: aggregate, doubt, share"
    )
    with pytest.raises(ConfigError, match=r"algorithm 'local' has no option 'share'\. There are none"):
        plugins.build("algorithms", "local", {"share": 1})
    with pytest.raises(ConfigError, match="learner 'sklearn' cannot be built: multiple values for argument 'outputs'"):
        plugins.build("learners", "sklearn", {"outputs": CLASSES}, CLASSES)


def test_options_that_are_not_given():
    """What a builder cannot do without is asked for by name."""
    with pytest.raises(ConfigError, match=r"task: task 'classification' cannot be built: missing .* 'target'"):
        plugins.build("tasks", "classification", {}, where="task")


def test_options_arrive():
    assert plugins.build("algorithms", "fedmd", {"share": 0.25}).recipe.share == 0.25


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, names in plugins.BUILT_IN.items() for name in names]
)
def test_every_built_in_name_leads_somewhere(group, name):
    """To something that can be called and says what it is, or to the extra that it needs."""
    try:
        found = plugins.resolve(group, name)
    except MissingExtra:
        pytest.skip("its extra is not installed here")
    assert callable(found)
    assert found.__doc__.strip()


class Absent(MetaPathFinder):
    """Hides a package as if it were not installed."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


@pytest.mark.parametrize(
    ("name", "package", "packages"),
    [
        ("lightgbm", "lightgbm", "lightgbm"),
        ("xgboost", "xgboost", "xgboost-cpu"),
        ("torch_mlp", "torch", "torch safetensors"),
        ("opacus", "torch", "torch safetensors"),
    ],
)
def test_a_missing_extra_is_named_with_the_command(monkeypatch, name, package, packages):
    group = "learners" if name in plugins.BUILT_IN["learners"] else "mechanisms"
    file = plugins.BUILT_IN[group][name].partition(":")[0]
    for loaded in [key for key in sys.modules if key.partition(".")[0] == package or key == file]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setattr(sys, "meta_path", [Absent(package), *sys.meta_path])
    with pytest.raises(MissingExtra) as caught:
        plugins.resolve(group, name)
    assert caught.value.remedy == f"Run: pip install {packages}"
    assert plugins.summaries(group)[name] == caught.value.remedy
