"""A consortium's folder in one file, taken while it is served, and back."""

from __future__ import annotations

import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from fedstill.errors import ConfigError, DataError
from fedstill.files import fill_whole, write_whole
from fedstill.service.consortium import Consortium

_DATABASE, _PAYLOADS = "store.db", "payloads"
_PLAIN = ("consortium.toml", "authority.pem", "coordinator.pem", "server.pem")
_PRIVATE = ("authority.key", "coordinator.key", "server.key")


def backup(folder: Path, target: Path) -> None:
    """Write keys, settings, database and payloads to a file that only its owner can read.

    The database is copied first, as it is at one moment; payloads that it names were on the disk before.

    Raises
    ------
    ConfigError
        Where the folder holds no consortium, or its database is not a file in it.
    """
    consortium = Consortium(folder)
    external = consortium.settings.database
    consortium.close()
    if external:
        raise ConfigError(
            "the database is not in this folder",
            where=str(folder),
            remedy="Back it up with pg_dump, and copy the folder",
        )

    def fill(part: Path) -> None:
        part.touch(0o600)
        with TemporaryDirectory() as name, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
            copy = Path(name) / _DATABASE
            with closing(sqlite3.connect(folder / _DATABASE)) as source, closing(sqlite3.connect(copy)) as to:
                source.backup(to)
            file.write(copy, _DATABASE)
            for plain in (*_PLAIN, *_PRIVATE):
                file.write(folder / plain, plain)
            for payload in sorted((folder / _PAYLOADS).iterdir()):
                if payload.is_file():
                    file.write(payload, f"{_PAYLOADS}/{payload.name}")

    fill_whole(target, fill)


def restore(path: Path, folder: Path) -> None:
    """Make a consortium's folder from a backup.

    Raises
    ------
    ConfigError, DataError
        Where the folder is not empty, or the file is no backup.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError("this folder is not empty", where=str(folder), remedy="Name another one")
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
            if not {_DATABASE, *_PLAIN, *_PRIVATE} <= set(names):
                raise DataError("parts of it are missing", where=str(path), remedy="Give a whole backup")
            (folder / _PAYLOADS).mkdir(parents=True, exist_ok=True)
            for name in (*_PLAIN, *_PRIVATE, _DATABASE):
                write_whole(folder / name, file.read(name), private=name not in _PLAIN)
            for name in names:
                place, _, digest = name.partition("/")
                if place == _PAYLOADS and digest.isalnum():
                    write_whole(folder / _PAYLOADS / digest, file.read(name))
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"this is no backup: {error}", where=str(path), remedy="Give a whole backup") from None
