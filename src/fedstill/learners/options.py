"""Options of a learner, checked by their names and ranges, and libraries that an extra brings."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from fedstill.errors import ConfigError, MissingExtra
from fedstill.labels import Outputs, Space


@dataclass(frozen=True)
class Option:
    """One option of a learner; the type of its default is the type it has.

    Attributes
    ----------
    default:
        A whole number, a number, or a tuple of whole numbers.
    low, high:
        The least and the greatest value allowed (of each item, where it is a tuple).
    """

    default: int | float | tuple[int, ...]
    low: float
    high: float

    def check(self, kind: str, name: str, value: Any) -> Any:
        """Return the value as the default's type. Raises ConfigError where it cannot be that."""
        if isinstance(self.default, tuple):
            fits = isinstance(value, list | tuple) and all(self._is_number(item, int) for item in value)
            wanted = "a list of whole numbers"
        else:
            fits = self._is_number(value, type(self.default))
            wanted = "a whole number" if isinstance(self.default, int) else "a number"
        if not fits:
            raise ConfigError(
                f"{kind} cannot take {name} = {value!r}",
                remedy=f"{name} is {wanted} from {self.low:g} to {self.high:g}; without it {self.default}",
            )
        return type(self.default)(value)

    def _is_number(self, value: Any, kind: type) -> bool:
        kinds = (int, np.integer) if kind is int else (int, float, np.integer, np.floating)
        return isinstance(value, kinds) and not isinstance(value, bool) and bool(self.low <= value <= self.high)


def check_known(kind: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise ConfigError for the first name that is not known, with the nearest one that is."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean '{close[0]}'? " if close else ""
            raise ConfigError(f"{kind} has no option '{name}'", remedy=f"{hint}There are: {', '.join(known) or 'none'}")


def check_options(kind: str, known: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in defaults. Raises ConfigError for a bad value or an unknown name, with the nearest known."""
    check_known(kind, given, known)
    return {
        name: option.check(kind, name, given[name]) if name in given else option.default
        for name, option in known.items()
    }


def check_outputs(outputs: Outputs) -> None:
    """Raise ConfigError where outputs have no meaning: levels out of (0, 1) or not rising, a single class."""
    if outputs.space is Space.QUANTILES:
        levels = outputs.levels
        if not len(levels) or levels[0] <= 0 or levels[-1] >= 1 or np.any(np.diff(levels) <= 0):
            raise ConfigError(f"{outputs.columns} are not quantile levels", remedy="Give rising numbers in (0, 1)")
    elif len(outputs) < 2 or len(set(outputs.columns)) < len(outputs):
        raise ConfigError(
            f"{outputs.columns} are not classes to tell apart", remedy="Name two or more different classes"
        )


def brief(error: BaseException) -> str:
    """What an error of another library says, fit for the middle of a sentence of ours."""
    return " ".join(str(error).split())[:300].rstrip(". ")


def need(module: str, packages: str) -> Any:
    """Import a library of an extra, which `packages` bring. Raises MissingExtra where it cannot be had."""
    try:
        return import_module(module)
    except (ImportError, OSError) as error:
        absent = isinstance(error, ImportError)
        system = "Install the system library that it names (on Debian libgomp is libgomp1)"
        raise MissingExtra(
            f"the library '{module}' cannot be used: {brief(error)}",
            remedy=f"Run: pip install {packages}" if absent else system,
        ) from error
