"""Models on disk without pickle: a card that says what the files are, and helpers for the files themselves.

A stored model is a folder with `learner.json`, the card, and the files of the library that made it. The
card holds the SHA-256 of each, so damage shows before a foreign parser sees it. It is no signature: who can
write the folder can write the card. What keeps a hostile file harmless is that nothing here runs code that
a file names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from io import BytesIO
from os.path import splitext
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np

from fedstill.errors import LearnerError
from fedstill.labels import Array, Outputs, Space

_ADDRESS = re.compile(rb'("__id__": |"file": ")(\d+)')
"""Where the schema of skops holds an address."""

CARD = "learner.json"
FORMAT = 1

TRUSTED = frozenset(
    {
        "_loss.CyHalfBinomialLoss",
        "_loss.CyHalfMultinomialLoss",
        "_loss.CyPinballLoss",
        "sklearn._loss.link.IdentityLink",
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.link.MultinomialLogit",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss.loss.HalfMultinomialLoss",
        "sklearn._loss.loss.HalfSquaredError",
        "sklearn._loss.loss.PinballLoss",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.tree._tree.Tree",
    }
)
"""Parts of scikit-learn's models that one or another version of skops leaves to the reader to trust."""


@dataclass(frozen=True)
class Card:
    """What a stored model is.

    Attributes
    ----------
    kind:
        The learner's kind, as its class names it.
    outputs, seed, options:
        What the learner was built with.
    n_features:
        Columns of the rows it learned from.
    """

    kind: str
    outputs: Outputs
    seed: int
    options: Mapping[str, Any]
    n_features: int


def check_empty(folder: Path) -> None:
    """Raise LearnerError unless the folder exists and is empty, so that no two models mix."""
    if not folder.is_dir():
        raise LearnerError("there is no such folder", where=str(folder), remedy="Create it first")
    if any(folder.iterdir()):
        raise LearnerError(
            "the folder is not empty", where=str(folder), remedy="Save each model in a folder of its own"
        )


def write_card(folder: Path, card: Card) -> None:
    """Write the card for the files that are in the folder now."""
    text = {
        "format": FORMAT,
        "kind": card.kind,
        "outputs": {"space": str(card.outputs.space), "columns": list(card.outputs.columns)},
        "seed": card.seed,
        "options": dict(card.options),
        "n_features": card.n_features,
        "sha256": _digests(folder),
    }
    (folder / CARD).write_text(json.dumps(text, indent=1), encoding="utf-8")


def read_card(folder: Path) -> Card:
    """Read the card and compare the files with it. Raises LearnerError where anything has changed."""
    path = folder / CARD
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
        version, digests = text["format"], text["sha256"]
        outputs = Outputs(Space(text["outputs"]["space"]), tuple(text["outputs"]["columns"]))
        card = Card(text["kind"], outputs, text["seed"], dict(text["options"]), text["n_features"])
    except OSError as error:
        raise LearnerError(
            "the folder holds no model", where=str(folder), remedy="Name a folder that a learner was saved in"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LearnerError("the card of the model is damaged", where=str(path), remedy="Train it again") from error
    if version != FORMAT:
        raise LearnerError(
            f"the model is stored in format {version!r}, and format {FORMAT} is the one known here",
            where=str(path),
            remedy="Load it with the version of fedstill that wrote it",
        )
    if not isinstance(card.kind, str) or not isinstance(card.n_features, int) or card.n_features < 1:
        raise LearnerError("the card of the model is damaged", where=str(path), remedy="Train it again")
    if digests != _digests(folder):
        raise LearnerError(
            "the files of the model are not those that were saved", where=str(folder), remedy="Train it again"
        )
    return card


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.iterdir() if path.name != CARD and path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write named arrays as an npz file."""
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # names are ours, none is `allow_pickle`


def read_arrays(path: Path) -> dict[str, Array]:
    """Read what `write_arrays` wrote; arrays of objects are refused."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def write_estimators(path: Path, state: Mapping[str, Any], trusted: Collection[str] = ()) -> None:
    """Write scikit-learn objects with skops. Raises LearnerError for a type that would not load again."""
    from skops import io

    try:
        data = io.dumps(dict(state))
    except Exception as error:
        raise LearnerError(f"the model cannot be stored without pickle: {error}", where=str(path)) from error
    _check_types(io.get_untrusted_types(data=data), trusted, path)
    path.write_bytes(_settled(data))


def _settled(data: bytes) -> bytes:
    """What skops wrote, the same bytes for the same model.

    skops tells objects apart, and names its arrays, by their address in memory, and stamps the time: here
    addresses become numbers in their order, and the time is that at which ZIP archives begin.
    """
    with ZipFile(BytesIO(data)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    numbers: dict[bytes, bytes] = {}
    schema = _ADDRESS.sub(
        lambda found: found[1] + numbers.setdefault(found[2], b"%d" % len(numbers)), contents.pop("schema.json")
    )
    renamed = {
        numbers.get(stem.encode(), stem.encode()).decode() + suffix: content
        for (stem, suffix), content in zip(map(splitext, contents), contents.values(), strict=True)
    }
    written = BytesIO()
    with ZipFile(written, "w") as archive:
        for name, content in [*sorted(renamed.items()), ("schema.json", schema)]:
            archive.writestr(ZipInfo(name), content)
    return written.getvalue()


def read_estimators(path: Path, trusted: Collection[str] = ()) -> dict[str, Any]:
    """Read what `write_estimators` wrote. Raises LearnerError where the file names a type not on the list."""
    from skops import io

    data = path.read_bytes()
    unknown = io.get_untrusted_types(data=data)
    _check_types(unknown, trusted, path)
    state = io.loads(data, trusted=unknown)
    if not isinstance(state, dict):
        raise LearnerError("the file does not hold a model's state", where=str(path), remedy="Train it again")
    return state


def _check_types(types: Collection[str], trusted: Collection[str], path: Path) -> None:
    foreign = sorted(set(types) - TRUSTED - set(trusted))
    if foreign:
        raise LearnerError(
            f"the model holds types that are not on the list of trusted ones: {', '.join(foreign)}",
            where=str(path),
            remedy="If you know them, name them in `trusted` of a class derived from the learner's",
        )
