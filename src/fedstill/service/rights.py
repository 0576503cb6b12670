"""What each role may ask for: one table, over HTTPS and MQTT alike. `docs/security.md` quotes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fedstill.service.callers import Caller, Refused
from fedstill.transports.roles import Role

MEMBERS: Final = frozenset({Role.PARTICIPANT, Role.OBSERVER, Role.AUDITOR, Role.OPERATOR})
"""Roles that somebody can be invited in."""

_TAKES_PART: Final = frozenset({Role.PARTICIPANT})

OPEN: Final = frozenset({"GET /health", "GET /ready", "POST /v1/enrol"})
"""What anybody may ask for, also without a certificate."""

RIGHTS: Final[Mapping[str, frozenset[Role]]] = {
    "GET /v1/openapi.json": MEMBERS,
    "GET /v1/terms": MEMBERS,
    "GET /v1/status": MEMBERS,
    "POST /v1/renew": MEMBERS,
    "GET /metrics": MEMBERS - _TAKES_PART,
    "GET /v1/letters": _TAKES_PART,
    "POST /v1/letters": _TAKES_PART,
    "HEAD /v1/payloads/{digest}": _TAKES_PART,
    "PATCH /v1/payloads/{digest}": _TAKES_PART,
    "GET /v1/payloads/{digest}": _TAKES_PART,
    "GET /v1/audit": frozenset({Role.AUDITOR}),
    "POST /v1/invitations": frozenset({Role.OPERATOR}),
    "POST /v1/revocations": frozenset({Role.OPERATOR}),
}
"""Who may ask for what; nobody for what does not stand here."""

FROM_AFAR: Final = frozenset({Role.PARTICIPANT, Role.OBSERVER})
"""Whom an operator can invite and revoke from its own machine. Who may read soft labels, and who is an operator, is
decided where the coordinator's keys lie."""


def check_right(caller: Caller, endpoint: str) -> None:
    """Raise Refused where the caller's role may not ask for this."""
    welcome = RIGHTS.get(endpoint, frozenset())
    if caller.role not in welcome:
        remedy = f"Ask as one of: {', '.join(sorted(welcome))}"
        raise Refused(403, f"not for the role '{caller.role}'", remedy if welcome else "")
