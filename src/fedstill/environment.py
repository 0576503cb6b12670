"""What a run was made on: versions and the kind of machine, no names and no paths."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = (
    "fedstill", "numpy", "pandas", "scikit-learn", "lightgbm", "xgboost", "xgboost-cpu", "torch", "holidays"
)  # fmt: skip


def describe() -> dict[str, str]:
    """Versions of Python and of the libraries that shape results, the system, and the number of processors."""
    found = {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "processors": str(os.cpu_count() or 0),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
