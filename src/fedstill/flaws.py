"""What is wrong with a release that came from elsewhere: checked before any strategy or learner sees it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedstill.labels import Outputs, Release, SoftLabels, Space
from fedstill.messages import Kind, Recipe


def flaw_of_release(
    release: Release,
    recipe: Recipe,
    outputs: Outputs,
    n_items: int,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> str:
    """What is wrong with a decoded answer to a recipe; empty where nothing is.

    Parameters
    ----------
    release:
        The answer.
    recipe:
        What was asked for.
    outputs, n_items:
        Columns of soft labels, and rows of the transfer set.
    shapes:
        Names and shapes that parameters must have.
    """
    if recipe.count != (release.count > 0) or release.count < 0:
        return "its number of rows is not as the recipe asks"
    if recipe.score != np.isfinite(release.score):
        return "its held-out loss is not as the recipe asks"
    if not (np.isfinite(release.within) if recipe.adaptive else np.isnan(release.within)):
        return "whether its update was within the clip is not as the recipe asks"
    has_labels, has_sketch, has_parameters = (
        release.labels is not None,
        release.sketch is not None,
        bool(release.parameters),
    )
    if recipe.release is Kind.LABELS:
        if release.labels is None or has_sketch or has_parameters:
            return "it carries no soft labels, or more than soft labels"
        flaw = flaw_of_labels(release.labels, outputs, len(outputs) if recipe.about == "classes" else n_items)
        # No honest item counts more than 1, and one voice that did could drown all others.
        return flaw or ("it holds weights above 1" if (release.labels.weight > 1).any() else "")
    if recipe.release is Kind.SKETCH:
        if release.sketch is None or has_labels or has_parameters:
            return "it carries no sketch, or more than a sketch"
        if release.sketch.shape != (recipe.sketch,):
            return f"its sketch has shape {release.sketch.shape}, expected ({recipe.sketch},)"
        return "" if np.isfinite(release.sketch).all() else "its sketch is not finite"
    if has_labels or has_sketch or not has_parameters:
        return "it carries no parameters, or more than parameters"
    if {name: array.shape for name, array in release.parameters.items()} != shapes:
        return "its parameters have other names or shapes than the common start"
    if not all(a.dtype.kind == "f" and np.isfinite(a).all() for a in release.parameters.values()):
        return "its parameters are not finite"
    return ""


def flaw_of_labels(labels: SoftLabels, outputs: Outputs, n_items: int) -> str:
    """What is wrong with soft labels for all of a transfer set; empty where nothing is."""
    if labels.space is not outputs.space or labels.values.shape != (n_items, len(outputs)):
        return (
            f"it holds {labels.space} of shape {labels.values.shape}, "
            f"expected {outputs.space} of shape ({n_items}, {len(outputs)})"
        )
    if labels.weight.shape != (n_items,) or not np.array_equal(labels.items, np.arange(n_items)):
        return "it is not about the items that were asked for"
    if not (np.isfinite(labels.values).all() and np.isfinite(labels.weight).all()):
        return "it holds values that are not finite"
    if (labels.weight < 0).any():
        return "it holds negative weights"
    if labels.space is Space.QUANTILES:
        return "" if (labels.values[:, 1:] >= labels.values[:, :-1]).all() else "its quantiles cross"
    sums = labels.values.sum(axis=1, dtype=np.float64)
    return "" if (labels.values >= 0).all() and np.allclose(sums, 1, atol=1e-3) else "its probabilities do not sum to 1"
