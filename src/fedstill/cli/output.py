"""What commands print for other programs."""

from __future__ import annotations

from typing import Any

import click
import msgspec


def print_json(value: Any) -> None:
    """Print JSON on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())
