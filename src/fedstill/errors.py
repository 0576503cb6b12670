"""Errors that say what is wrong, where, and what to do about it.

    FedstillError
    ├── ConfigError      a federation file or an argument names something that cannot be
    ├── DataError        a data file or frame cannot be used as it is
    ├── WireError        bytes from elsewhere are not what they claim to be
    ├── LearnerError     a local model cannot do what it was asked
    ├── MissingExtra     a library that the chosen part needs is not installed
    ├── DownloadError    something could not be fetched
    ├── BudgetSpent      the owner's privacy budget does not pay for this
    ├── LinkRefused      the coordinator says no, and why
    ├── LinkDown         the coordinator cannot be reached
    └── RunError         a federation could not finish

Everything raised for a user's sake is one of these; the command line prints it in one line and exits with 2.
Any other exception is a bug in fedstill.
"""

from __future__ import annotations


class FedstillError(Exception):
    """Base of all errors that fedstill raises on purpose.

    Parameters
    ----------
    what:
        What is wrong, as a sentence without the final stop.
    where:
        The file, row, column or key it was found in; empty where there is no such place.
    remedy:
        What the reader can do now; empty only where nothing can be done.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f". {self.remedy}" if self.remedy else ""
        return f"{place}{self.what}{advice}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not survive a process pool by themselves.
        return _rebuild, (type(self), self.what, self.where, self.remedy)


def _rebuild(kind: type[FedstillError], what: str, where: str, remedy: str) -> FedstillError:
    return kind(what, where=where, remedy=remedy)


class ConfigError(FedstillError):
    """A federation file or an argument names something that cannot be."""


class DataError(FedstillError):
    """A data file or frame cannot be used as it is."""


class WireError(FedstillError):
    """Bytes from elsewhere are not what they claim to be."""


class LearnerError(FedstillError):
    """A local model cannot do what it was asked."""


class MissingExtra(FedstillError):  # noqa: N818 - says what is missing
    """A library that the chosen part needs is not installed."""


class DownloadError(FedstillError):
    """Something could not be fetched."""


class BudgetSpent(FedstillError):  # noqa: N818 - says what happened
    """The owner's privacy budget does not pay for this; what it was for does not leave."""


class LinkRefused(FedstillError):  # noqa: N818 - says what happened
    """The coordinator says no, and why; asking again brings the same."""


class LinkDown(FedstillError):  # noqa: N818 - says what happened
    """There is no connection to the coordinator, or it broke; trying again may help."""


class RunError(FedstillError):
    """A federation could not finish."""


class FedstillWarning(UserWarning):
    """Something the user should know although the run goes on."""
