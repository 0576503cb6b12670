"""Which version of what parties say to each other this fedstill speaks, and whom it understands.

The version is MAJOR.MINOR. Two sides understand each other where MAJOR is the same and MINOR differs by one at most: so
a coordinator may be upgraded before its participants, or after them, one step at a time. Nothing is negotiated: no
version switches anything off, so there is nothing to gain from pretending to be older.

Over HTTPS the version stands in a header of every request and every answer, over MQTT in every request, below its seal.
Who says none is of 1.0, the version before this one.
"""

from __future__ import annotations

import re

from fedstill.errors import LinkRefused

PROTOCOL = (1, 1)
"""Raise MINOR where something is added that the other side may lack, MAJOR where the two could not work together."""

SPOKEN = f"{PROTOCOL[0]}.{PROTOCOL[1]}"
UNSAID = "1.0"
"""What is meant by who says nothing."""

HEADER = "Fedstill-Protocol"


def check_spoken(*, participant: str = SPOKEN, coordinator: str = SPOKEN) -> None:
    """Make sure that both sides understand each other; one of the two is this one.

    Parameters
    ----------
    participant, coordinator:
        What they say that they speak.

    Raises
    ------
    LinkRefused
        Where they do not, with what to do about it: for the participant to read, on whichever side it is raised.
    """
    one, other = _read(participant, "participant"), _read(coordinator, "coordinator")
    if one[0] == other[0] and abs(one[1] - other[1]) <= 1:
        return
    if one < other:
        remedy = "Upgrade fedstill here"
    else:
        remedy = "Ask the operator to upgrade fedstill, or install the version here that you had before"
    raise LinkRefused(
        f"the participant speaks version {participant} of fedstill's protocol, and the coordinator {coordinator}",
        where="protocol",
        remedy=remedy,
    )


def _read(said: str, who: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,4})\.(\d{1,4})", said, re.ASCII)
    if found is None:
        raise LinkRefused(
            f"the {who} says {said[:40]!r} where the version of its protocol should stand",
            where="protocol",
            remedy=f"Upgrade fedstill, and look at proxies between the two: a version is written as {SPOKEN}",
        )
    return int(found[1]), int(found[2])
