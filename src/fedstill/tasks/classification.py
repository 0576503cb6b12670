"""Classes from a table: one row a case, one column the class, the others what is known about it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from pandas.util import hash_array, hash_pandas_object

from fedstill.errors import ConfigError, DataError
from fedstill.labels import Array, Outputs, Space
from fedstill.sites import Floor, Rows, Site, View, dealt
from fedstill.tasks.base import Change, Examination, Prepared, TransferSet, check_folds

MIN_ROWS = 10


@dataclass(frozen=True)
class Classification:
    """The classification task.

    Attributes
    ----------
    target:
        The column that holds the class.
    classes:
        All classes there are, as text; public, so that a site that lacks one still speaks of it.
    columns:
        Numeric columns that models see.
    categories:
        Other columns that models see, with the values each can have; a value that is not listed is none of them.
    test:
        Share of a site's rows held back to judge what is kept, drawn at random.
    folds:
        In so many parts the others are held back in turn, to choose what to keep (`crossfit`); 1: nothing is.
    seed:
        Seed of both draws.
    companions:
        Learners that train beside every participant's own and are averaged with it, see `learners.committee`.
    customer:
        The column that names whose row it is, where all rows of a customer shall be hidden together; no input.
    """

    target: str
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    categories: dict[str, tuple[str, ...]] | None = None
    test: float = 0.25
    folds: int = 4
    seed: int = 0
    companions: tuple[str, ...] = ("extra_trees", "mlp")
    customer: str | None = None
    name: str = "classification"

    def __post_init__(self) -> None:
        """Refuse settings that cannot be."""
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise ConfigError(
                f"classes {list(self.classes)} are not two or more different ones",
                where="task.classes",
                remedy='Write for example classes = ["off", "on"]',
            )
        seen = (*self.columns, *(self.categories or {}))
        if not seen or len(set(seen)) != len(seen) or self.target in seen:
            raise ConfigError(
                f"columns {list(seen)} are none, or the same twice, or hold the class column '{self.target}'",
                where="task.columns",
                remedy="Name the columns that models see, each once and without the target",
            )
        if not 0 < self.test < 1:
            raise ConfigError(
                f"test = {self.test} leaves nothing to learn from or to judge by",
                where="task.test",
                remedy="Use a share such as 0.25",
            )
        check_folds(self.folds)

    @property
    def outputs(self) -> Outputs:
        """Probabilities of the classes."""
        return Outputs(Space.PROBABILITIES, self.classes)

    @property
    def units(self) -> tuple[str, ...]:
        """A block of a view is all rows of a customer where the task names their column, or else a single row."""
        return ("customer", "reading") if self.customer else ("reading",)

    @property
    def properties(self) -> dict[str, Change]:
        """Whether the first class is rare."""
        return {f"rare_{self.classes[0]}": self.without_most}

    def without_most(self, data: pd.DataFrame) -> pd.DataFrame:
        """The same table without three quarters of the rows of the first class."""
        of_class = np.flatnonzero(data[self.target].astype(str) == self.classes[0])
        return data.drop(data.index[of_class[np.arange(len(of_class)) % 4 > 0]])

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns of X."""
        listed = (self.categories or {}).items()
        return (*self.columns, *(f"{column}={value}" for column, values in listed for value in values))

    def prepare(
        self, party: str, data: pd.DataFrame, history: tuple[str | None, str | None] = (None, None)
    ) -> Prepared:
        """Make a site's table ready. Raises DataError where it does not fit the task."""
        del history  # rows of a table have no time
        X = self.inputs(data, party)
        y = self._targets(data, party)
        # Drawn by name, so that another participant changes nothing for this one.
        order = np.random.default_rng([self.seed, zlib.crc32(party.encode())]).permutation(len(y))
        test, train = np.split(order, [round(self.test * len(y))])
        for name, rows in (("learn from", train), ("be judged on", test)):
            if len(rows) < MIN_ROWS:
                raise DataError(
                    f"{len(rows)} rows are left to {name}, {MIN_ROWS} are needed",
                    where=f"site {party}",
                    remedy="Give more rows, or change task.test",
                )
        own = Rows(X[train], y[train], self._customers(data, train, party))
        view = self._view(own)
        site = Site(party, own, Floor.fit(self.outputs, own.y), dealt(own.y, self.folds), view)
        return Prepared(site, Examination(X[test], y[test], np.arange(len(test))))

    def transfer(self, data: pd.DataFrame) -> TransferSet:
        """Make a public table a transfer set; its class column, if it has one, is not read. Raises DataError."""
        X = self.inputs(data, "transfer set")
        if not len(X):
            raise DataError("the transfer set has no rows", where="transfer", remedy="Give public rows")
        return TransferSet(X, X.nbytes)

    def _customers(self, data: pd.DataFrame, chosen: Array, party: str) -> Array | None:
        """A number for the customer of each row, which follows from its name alone."""
        if self.customer is None:
            return None
        if self.customer not in data:
            raise DataError(
                f"the column '{self.customer}' of customers is missing",
                where=f"site {party}",
                remedy=f"Columns are: {', '.join(map(str, data.columns))}",
            )
        return hash_array(data[self.customer].astype(str).to_numpy(object)[chosen]).view(np.int64)

    def _view(self, own: Rows) -> View:
        """The rows that are learned from, each a block of its own, or those of a customer together.

        Which rows these are is drawn from their number; neighbours differ in what is among them.
        """
        if own.block is None:
            lot = hash_pandas_object(pd.DataFrame(own.X).assign(y=own.y), index=False).to_numpy()
            return replace(self.view(own.X), y=own.y, reach=1, lot=lot)
        order = np.argsort(own.block, kind="stable")
        block = own.block[order]
        together = replace(self.view(own.X[order]), y=own.y[order], block=block, reach=1, lot=block.view(np.uint64))
        return replace(together, blocks=len(np.unique(block)))

    def view(self, X: Array, block: Array | None = None) -> View:
        """Rows as a release model sees them: all columns as they are."""
        del block
        n = len(X)
        nothing = np.zeros((n, 0))
        return View(np.asarray(X, np.float64), nothing, None, np.zeros(n), None, np.arange(n), 0, n)

    def inputs(self, data: pd.DataFrame, site: str) -> Array:
        """Inputs of a table's rows, float32, shape (n, f)."""
        for column in (*self.columns, *(self.categories or {})):
            if column not in data:
                raise DataError(
                    f"column '{column}' is missing",
                    where=f"site {site}",
                    remedy=f"Columns are: {', '.join(map(str, data.columns))}",
                )
        parts = [_numeric(data[column], site) for column in self.columns]
        for column, values in (self.categories or {}).items():
            text = data[column].astype(str).to_numpy()
            parts += [(text == value).astype(np.float32) for value in values]
        return np.column_stack(parts).astype(np.float32) if parts else np.zeros((len(data), 0), np.float32)

    def _targets(self, data: pd.DataFrame, site: str) -> Array:
        if self.target not in data:
            raise DataError(
                f"the class column '{self.target}' is missing",
                where=f"site {site}",
                remedy=f"Columns are: {', '.join(map(str, data.columns))}",
            )
        text = data[self.target].astype(str)
        places = {name: place for place, name in enumerate(self.classes)}
        codes = np.array([places.get(name, -1) for name in text], np.int64)
        if (codes < 0).any():
            row = int(np.argmax(codes < 0))
            raise DataError(
                f"class '{text.iloc[row]}' in row {row + 1} is not one of {', '.join(self.classes)}",
                where=f"site {site}, column {self.target}",
                remedy="Add it to task.classes or mend the table",
            )
        return codes


def _numeric(column: pd.Series, site: str) -> Array:
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"'{column.iloc[row]}' in row {row + 1} is no finite number",
            where=f"site {site}, column {column.name}",
            remedy="Mend or leave out the row, or list the column under task.categories",
        )
    return values.astype(np.float32)
