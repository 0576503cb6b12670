"""How unlike artificial sites shall be, factor by factor, with the differences between real sites as the measure."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, fields

from fedstill.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Skew:
    """How unlike sites are by each factor of `fedstill.energy.heterogeneity`.

    0: all sites alike, so that their readings differ by noise and stops alone. 1: about as unlike as the sites of
    the most varied real set (`docs/heterogeneity.md` compares the two). A factor does not come alone: who has a
    larger base load has a flatter day and week as well.

    Attributes
    ----------
    level:
        Size of the site.
    swing:
        Base load beside the process.
    daily:
        Number and begin of shifts, rest at lunch.
    weekly:
        Days worked a week.
    season:
        Yearly wave, summer closure, growth.
    weather:
        Heating and cooling, balance temperatures, local climate.
    noise:
        Spread and memory of the noise, stops.
    history:
        Length: at 1 from all days asked for down to the last tenth of them.

    Raises
    ------
    ConfigError
        Where a value is no number from 0 to 1.
    """

    level: float = 0.0
    swing: float = 0.0
    daily: float = 0.0
    weekly: float = 0.0
    season: float = 0.0
    weather: float = 0.0
    noise: float = 0.0
    history: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no skew."""
        for name, value in asdict(self).items():
            if not _is_share(value):
                raise ConfigError(f"{value!r} cannot be", where=f"skew, {name}", remedy="Use a number from 0 to 1")

    @classmethod
    def all(cls, value: float, history: float = 0.0) -> Skew:
        """The same skew for every factor of the load; histories, which lose readings by it, are asked for apart."""
        return cls(**dict.fromkeys(LOAD_FACTORS, value), history=history)


@dataclass(frozen=True)
class Ranges:
    """How far from the typical site the parameters go at skew 1, in the units of `SiteModel`.

    `size_power` is that of 8: with 1 a site is an eighth to eight times the typical one.
    """

    size_power: float = 1.0
    base_kw: float = 70.0
    season: float = 0.15
    heating_kw_per_k: float = 3.0
    cooling_kw_per_k: float = 5.0
    noise: float = 0.03


PLAIN = Ranges()
"""The ranges of a skew that is one number; the seeds of older versions give the same load."""

REAL = Ranges(size_power=1.45, base_kw=95.0, season=0.4, heating_kw_per_k=26.0, cooling_kw_per_k=45.0, noise=0.35)
"""The ranges of a `Skew`, set so that the factors' mean distances come near the largest of the real sets."""

FACTORS = tuple(field.name for field in fields(Skew))
LOAD_FACTORS = FACTORS[:-1]


def parse_skew(text: str) -> float | Skew:
    """A skew as it is written on the command line: "0.5", or "all=0.5", or "level=1,daily=0.5"; see `Skew.all`.

    Raises ConfigError where it is neither.
    """
    if "=" not in text:
        return _number(text, "skew")
    given: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in ("all", *FACTORS):
            close = difflib.get_close_matches(name, FACTORS)
            remedy = f"Did you mean {close[0]}?" if close else f"There are: all, {', '.join(FACTORS)}"
            raise ConfigError(f"there is no factor '{name}'", where="skew", remedy=remedy)
        given |= dict.fromkeys(LOAD_FACTORS if name == "all" else (name,), _number(value, f"skew, {name}"))
    return Skew(**given)


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        remedy = "Write a number from 0 to 1, or factors such as level=1,daily=0.5"
        raise ConfigError(f"'{text}' is no number", where=where, remedy=remedy) from None


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
