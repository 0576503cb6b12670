"""fedstill: federated distillation. Better models together, without showing each other the data.

The Python interface is `Federation`, `Member` and a task; see `fedstill.federation`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedstill.contributing import contributions as contributions
    from fedstill.energy.frame import Layout as Layout
    from fedstill.energy.frame import from_frame as from_frame
    from fedstill.energy.frame import read as read
    from fedstill.energy.frame import window as window
    from fedstill.federation import Federation as Federation
    from fedstill.federation import History as History
    from fedstill.members import Member as Member
    from fedstill.models import load as load_model
    from fedstill.privacy.guard import Privacy as Privacy
    from fedstill.privacy.spending import Budget as Budget
    from fedstill.privacy.spending import Unit as Unit
    from fedstill.tasks.classification import Classification as Classification
    from fedstill.tasks.forecast import Forecast as Forecast

__version__ = version("fedstill")

_PUBLIC = {
    "Budget": "fedstill.privacy.spending:Budget",
    "Classification": "fedstill.tasks.classification:Classification",
    "Federation": "fedstill.federation:Federation",
    "Forecast": "fedstill.tasks.forecast:Forecast",
    "History": "fedstill.federation:History",
    "Layout": "fedstill.energy.frame:Layout",
    "Member": "fedstill.members:Member",
    "Privacy": "fedstill.privacy.guard:Privacy",
    "Unit": "fedstill.privacy.spending:Unit",
    "contributions": "fedstill.contributing:contributions",
    "from_frame": "fedstill.energy.frame:from_frame",
    "load_model": "fedstill.models:load",
    "read": "fedstill.energy.frame:read",
    "window": "fedstill.energy.frame:window",
}
__all__ = [
    "Budget",
    "Classification",
    "Federation",
    "Forecast",
    "History",
    "Layout",
    "Member",
    "Privacy",
    "Unit",
    "contributions",
    "from_frame",
    "load_model",
    "read",
    "window",
]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that the core and the command line start without pandas and scikit-learn.
    if name in _PUBLIC:
        module, _, attribute = _PUBLIC[name].partition(":")
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'fedstill' has no attribute '{name}'")
