"""How commands print for programs and people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
import msgspec


def print_json(value: Any) -> None:
    """Print JSON on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def show_time(at: float) -> str:
    """Unix seconds as a clock time where the reader is."""
    return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="seconds")
