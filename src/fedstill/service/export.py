"""An audit in one file: what an auditor needs to verify a consortium's runs without its server."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fedstill.errors import ConfigError, DataError, FedstillError
from fedstill.files import fill_whole
from fedstill.service.audit import Audit, audit
from fedstill.service.consortium import Consortium
from fedstill.service.store.blobs import Blobs
from fedstill.service.store.store import Store
from fedstill.transports.identity import Certificate

MAX_BYTES = 64 * 2**30
MAX_FILES = 1_000_000
_DATABASE, _COORDINATOR, _AUTHORITY, _PAYLOADS = "store.db", "coordinator.pem", "authority.pem", "payloads"


def export(consortium: Consortium, target: Path) -> Audit:
    """Write all events, letters, payloads and certificates to a file, and say what an audit of that file finds.

    Keys and invitations are not in it. Soft labels are: whoever has the file can read them.
    """
    with TemporaryDirectory() as folder:
        copy = Store.open(f"sqlite:///{Path(folder) / _DATABASE}")
        consortium.store.copy_to(copy)
        copy.close()
        certificate = _certificate(consortium)

        def fill(part: Path) -> None:
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
                file.write(Path(folder) / _DATABASE, _DATABASE)
                file.writestr(_COORDINATOR, certificate.pem)
                file.writestr(_AUTHORITY, consortium.authority.cert_pem)
                for payload in sorted(consortium.blobs.folder.iterdir()):
                    if payload.is_file():
                        file.write(payload, f"{_PAYLOADS}/{payload.name}")

        fill_whole(target, fill)
    return verify(target)


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
        store = Store.open(f"sqlite:///{folder / _DATABASE}")
        blobs = Blobs(folder / "kept", MAX_BYTES)
        for payload in (folder / _PAYLOADS).iterdir():
            blobs.put(payload.read_bytes())  # by what it is, not by how it is called
        try:
            return audit(store, blobs, signer)
        finally:
            store.close()


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
            with zipfile.ZipFile(path) as file:
                listed = file.infolist()
                if len(listed) > MAX_FILES or sum(one.file_size for one in listed) > MAX_BYTES:
                    raise DataError("it is too large to be an audit", where=str(path))
                for one in listed:
                    with file.open(one) as source, (folder / _place(one.filename)).open("wb") as target:
                        shutil.copyfileobj(source, target)
            yield folder
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise DataError(f"this is no exported audit: {error}", where=str(path)) from None
        except FedstillError as error:
            raise DataError(f"this is no exported audit: {error}", where=str(path)) from None


def _place(name: str) -> Path:
    """Where a file of the archive goes; nothing may lead out of the folder."""
    parts = Path(name).parts
    inside = name in (_DATABASE, _COORDINATOR, _AUTHORITY)
    payload = len(parts) == 2 and parts[0] == _PAYLOADS and parts[1].isalnum()
    if not (inside or payload):
        raise DataError(f"it holds '{name[:80]}', which no audit does")
    return Path(*parts)
