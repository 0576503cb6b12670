"""How commands print for programs and people."""

from __future__ import annotations

from datetime import datetime
from importlib.util import find_spec
from typing import Any

import click
import msgspec

from fedstill.errors import MissingExtra

NETWORK = (
    "aiohttp",
    "alembic",
    "cryptography",
    "fastapi",
    "httptools",
    "prometheus_client",
    "sqlalchemy",
    "tomli_w",
    "uvicorn",
)


def print_json(value: Any) -> None:
    """Print JSON on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def one_line(text: str) -> str:
    """What another machine says, fit for a line on a terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def show_time(at: float) -> str:
    """Unix seconds as a clock time where the reader is."""
    return datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="seconds")


def need_network() -> None:
    """Raise MissingExtra where a package of the extra `network` is not installed."""
    missing = [name for name in NETWORK if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"a federation between machines needs {', '.join(missing)}",
            remedy='Install it: pip install "fedstill[network]"',
        )
