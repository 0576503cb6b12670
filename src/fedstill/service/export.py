"""An audit in one file: what an auditor needs to verify a consortium's runs without its server."""

from __future__ import annotations

import lzma
import shutil
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from fedstill.errors import ConfigError, DataError, FedstillError
from fedstill.files import fill_whole
from fedstill.service.audit import Audit, audit
from fedstill.service.consortium import Consortium
from fedstill.service.store.blobs import Blobs
from fedstill.service.store.store import Store
from fedstill.transports.certificates import Certificate

PIECE_BYTES = 256 * 1024
MAX_BYTES = 64 * 2**30
MAX_FILES = 1_000_000
_DATABASE, _COORDINATOR, _AUTHORITY, _PAYLOADS = "store.db", "coordinator.pem", "authority.pem", "payloads"


def export(consortium: Consortium, target: Path) -> Audit:
    """Write all events, letters, payloads and certificates to a file, and say what an audit of that file finds.

    Keys and invitations are not in it. Soft labels are: whoever has the file can read them.
    """
    fill_private(target, lambda file: file.writelines(pieces(consortium)))
    return verify(target)


def fill_private(target: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Let `fill` write a file, whole or not at all, for its owner alone to read. Raises OSError, and what it raises."""

    def write(part: Path) -> None:
        part.touch(0o600)
        with part.open("wb") as file:
            fill(file)

    fill_whole(target, write)


def pieces(consortium: Consortium) -> Generator[bytes, None, None]:
    """What `export` writes, in pieces of a few hundred kilobytes; nothing larger is in memory.

    Parties, events and letters are those of one moment. Closing the generator ends the work, and leaves nothing behind.
    """
    certificate = _certificate(consortium)
    written = _Written()
    with TemporaryDirectory() as folder, zipfile.ZipFile(written, "w") as archive:
        copy = Store.open(f"sqlite:///{Path(folder) / _DATABASE}")
        try:
            consortium.store.copy_to(copy)
        finally:
            copy.close()
        archive.writestr(_entry(_COORDINATOR), certificate.pem)
        archive.writestr(_entry(_AUTHORITY), consortium.authority.cert_pem)
        payloads = (path for path in sorted(consortium.blobs.folder.iterdir()) if path.is_file())
        named = {f"{_PAYLOADS}/{path.name}": path for path in payloads}
        for name, path in {_DATABASE: Path(folder) / _DATABASE, **named}.items():
            with path.open("rb") as source, archive.open(_entry(name), "w", force_zip64=True) as target:
                while piece := source.read(PIECE_BYTES):
                    target.write(piece)
                    yield written.taken()
    yield written.taken()


class _Written:
    """A file that only goes on, and keeps nothing of what has been taken from it."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def write(self, data: bytes, /) -> int:
        """Keep bytes until they are taken."""
        self._kept += data
        return len(data)

    def flush(self) -> None:
        """There is nothing behind it."""

    def close(self) -> None:
        """What it keeps can still be taken."""

    def taken(self) -> bytes:
        """What was written since the last call."""
        taken, self._kept = bytes(self._kept), bytearray()
        return taken


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def verify(path: Path) -> Audit:
    """Audit an exported file, or the folder of a consortium.

    Raises
    ------
    DataError, ConfigError
        Where it is neither.
    """
    if path.is_dir():
        consortium = Consortium(path)
        try:
            return audit(consortium.store, consortium.blobs, _certificate(consortium))
        finally:
            consortium.close()
    with _unpacked(path) as folder:
        signer = Certificate.from_pem((folder / _COORDINATOR).read_bytes())
        if not signer.issued_by((folder / _AUTHORITY).read_bytes()):
            raise DataError("its coordinator is not of its authority", where=str(path))
        _check_plain(folder / _DATABASE)
        store = Store.open(f"sqlite:///{folder / _DATABASE}")
        blobs = Blobs(folder / "kept", MAX_BYTES)
        for payload in (folder / _PAYLOADS).iterdir():
            blobs.put(payload.read_bytes())  # by what it is, not by how it is called
        try:
            return audit(store, blobs, signer)
        finally:
            store.close()


def _check_plain(database: Path) -> None:
    """Raise DataError unless there is nothing but tables: a view or a trigger is a program of who is audited."""
    query = "SELECT count(*) FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE '%VIRTUAL%'"
    try:
        with closing(sqlite3.connect(database)) as connection:
            (others,) = connection.execute(query).fetchone()
    except (sqlite3.Error, UnicodeDecodeError):
        raise DataError("its database is damaged") from None
    if others:
        raise DataError("its database holds more than tables")


def _certificate(consortium: Consortium) -> Certificate:
    certificate = consortium.identity.certificate
    if certificate is None:
        raise ConfigError("the coordinator has no certificate", where=str(consortium.folder))
    return certificate


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / _PAYLOADS).mkdir()
        try:
            _unpack(path, folder)
            yield folder
        except (FedstillError, OSError) as error:
            raise DataError(f"this is no exported audit: {error}", where=str(path)) from None


_UNREADABLE = (
    *(OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error),
    *(RuntimeError, ValueError, OverflowError),  # encrypted, or packed in a way that Python does not know
)
"""What the library raises for bytes that are no archive."""


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as file:
            listed = file.infolist()
            if len(listed) > MAX_FILES or sum(one.file_size for one in listed) > MAX_BYTES:
                raise DataError("it is too large to be an audit")
            for one in listed:
                with file.open(one) as source, (folder / _place(one.filename)).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except _UNREADABLE as error:
        raise DataError(f"{error}") from None


def _place(name: str) -> Path:
    """Where a file of the archive goes; nothing may lead out of the folder."""
    parts = Path(name).parts
    inside = name in (_DATABASE, _COORDINATOR, _AUTHORITY)
    payload = len(parts) == 2 and parts[0] == _PAYLOADS and parts[1].isalnum()
    if not (inside or payload):
        raise DataError(f"it holds '{name[:80]}', which no audit does")
    return Path(*parts)
