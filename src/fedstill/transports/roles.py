"""Roles: what the bearer of a certificate may do."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What the bearer of a certificate may do; stands in its organisational unit."""

    COORDINATOR = "coordinator"
    SERVER = "server"
    OPERATOR = "operator"
    PARTICIPANT = "participant"
    OBSERVER = "observer"
    AUDITOR = "auditor"
