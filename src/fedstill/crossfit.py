"""What a model says of rows that it has not seen, for all of a site's rows (cross-fitting).

A short history is too short to give a part of it away: a model that is kept has learned from all rows. To judge it,
the same kind of model learns once more without each fold and predicts that fold (cross-validation, Stone 1974,
doi:10.1111/j.2517-6161.1974.tb00994.x; stacking is done on such predictions, Wolpert 1992).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fedstill.labels import Array
from fedstill.learners.base import Learner
from fedstill.sites import Rows, Site


class CrossFit:
    """Predictions of held-back rows, each fold's model trained when it is first asked for.

    Parameters
    ----------
    site:
        Its rows and their folds.
    width:
        Number of outputs, k.
    fit:
        Trains a model from the rows it is given.
    """

    def __init__(self, site: Site, width: int, fit: Callable[[Rows], Learner]) -> None:
        self._site = site
        self._width = width
        self._fit = fit
        self._said: dict[int, Array] = {}

    def predict(self, folds: Sequence[int]) -> Array:
        """What models that have not seen these folds say of `site.held_back(folds)`, shape (n, k)."""
        held = self._site.fold[np.isin(self._site.fold, folds)]
        said = np.empty((len(held), self._width), np.float32)
        for fold in folds:
            said[held == fold] = self._fold(fold)
        return said

    def _fold(self, fold: int) -> Array:
        if fold not in self._said:
            model = self._fit(self._site.without(fold))
            self._said[fold] = model.predict(self._site.held_back([fold]).X)
        return self._said[fold]
