"""The made-up runs, for every test here."""

from __future__ import annotations

from fake_run import class_run, run

__all__ = ["class_run", "run"]
