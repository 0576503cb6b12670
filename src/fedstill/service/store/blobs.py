"""Payloads as files named by their SHA-256, received in pieces that can be resumed.

    folder/<digest>         whole, checked, and on the disk; never changed again
    folder/parts/<digest>   what has come of one so far; after a crash of the machine it may hold nonsense, which
                            `finish` then finds
    folder/parts/<digest>.* being written by `put`

Several processes may use one folder: a part is written by one at a time, and whoever puts a whole payload in its place
puts the same bytes there as everybody else.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from fedstill.errors import DataError, WireError

if sys.platform == "win32":  # there one process alone may use a folder

    def _try_lock(descriptor: int) -> None: ...

else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        """Lock a file until it is closed. Raises BlockingIOError where it is locked."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_DIGEST = re.compile(r"[0-9a-f]{64}")

MAPPED_BYTES = 256 * 1024
"""Payloads over this size are mapped into memory rather than read, so that they take none while nobody looks."""


class Taken(WireError):  # noqa: N818 - says what happened
    """Another process adds to the same payload right now, or has just finished it: trying again is of use."""


class Blobs:
    """Payloads in a folder, which is made where it does not exist.

    Methods raise WireError for a digest that is none or names nothing that is here, and OSError (with the path) where
    the disk is full or cannot be written.

    Parameters
    ----------
    folder:
        Holds nothing else.
    max_bytes:
        The largest payload.
    """

    def __init__(self, folder: str | os.PathLike[str], max_bytes: int) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self._parts = self.folder / "parts"
        new = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        self._parts.mkdir(parents=True, exist_ok=True)
        for path in new:
            _sync_folder(path.parent)

    def has(self, digest: str) -> bool:
        """Whether the whole payload is here."""
        return self._path(digest).is_file()

    def keeps(self, digest: str) -> bool:
        """The same, and that it is on the disk: whoever put it there may have been stopped just before it was."""
        here = self.has(digest)
        if here:
            _sync_folder(self.folder)
        return here

    def offset(self, digest: str) -> int:
        """How many bytes are here, of the whole payload or of its part."""
        for path in (self._path(digest), self._part(digest)):
            with suppress(FileNotFoundError):
                return path.stat().st_size
        return 0

    def append(self, digest: str, offset: int, data: bytes | memoryview) -> None:
        """Add to a part what comes after its first `offset` bytes.

        Raises
        ------
        WireError
            Where `offset` is not what `offset(digest)` says, another process adds to this part right now, or the part
            would be larger than `max_bytes`. Nothing was written then.
        """
        size = memoryview(data).nbytes
        if offset + size > self.max_bytes:
            raise WireError(
                f"a payload of at least {offset + size} bytes is over the bound of {self.max_bytes}", where=digest
            )
        self._check_absent(digest)
        _check_offset(digest, offset, self.offset(digest))  # makes no file for a piece that does not fit
        with self._held(digest, os.O_CREAT) as part:
            self._check_absent(digest)  # another process may have finished it: then this part was begun for nothing
            _check_offset(digest, offset, part.seek(0, os.SEEK_END))
            _write_all(part, data)

    def finish(self, digest: str) -> None:
        """Check a part and make it a whole payload, which is on the disk when this returns; so is one that was whole.

        Raises
        ------
        WireError
            Where nothing is here, or the bytes have another digest: then they are deleted.
        """
        if self.has(digest):
            self._part(digest).unlink(missing_ok=True)
            _sync_folder(self.folder)  # another process may have put it there a moment ago
            return
        if not self._part(digest).exists():
            raise WireError("nothing of this payload is here", where=digest)
        with self._held(digest) as part:
            part.seek(0)
            found = hashlib.file_digest(part, "sha256").hexdigest()
            os.fsync(part.fileno())
            if sys.platform == "win32":
                part.close()  # what is open can neither be renamed nor deleted there
            if found != digest:
                self._part(digest).unlink()
                raise WireError(
                    f"the payload has the digest {found}", where=digest, remedy="It is deleted; send it again"
                )
            self._part(digest).replace(self._path(digest))
        _sync_folder(self.folder)

    def put(self, data: bytes | memoryview, digest: str = "") -> str:
        """Keep a payload and return its digest; it is on the disk then. Raises WireError where it is too large.

        `digest` is what the caller has just found its SHA-256 to be, so that it need not be found again.
        """
        size = memoryview(data).nbytes
        if size > self.max_bytes:
            raise WireError(f"a payload of {size} bytes is over the bound of {self.max_bytes}")
        digest = digest or hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            descriptor, name = tempfile.mkstemp(prefix=f"{digest}.", dir=self._parts)
            try:
                with FileIO(descriptor, "wb") as file, _naming(Path(name)):
                    _write_all(file, data)
                    os.fsync(descriptor)
                Path(name).replace(self._path(digest))
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        _sync_folder(self.folder)
        return digest

    def get(self, digest: str) -> bytes:
        """Read a payload, and check it again. Raises DataError where the file is damaged."""
        path = self.open_path(digest)
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise DataError("the file is not what it was", where=str(path), remedy="Look at the disk; delete the file")
        return data

    def view(self, digest: str) -> memoryview:
        """A payload that is read when it is looked at; whoever needs to know makes sure that it is undamaged."""
        with self.open_path(digest).open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAPPED_BYTES:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            return memoryview(file.read())

    def open_path(self, digest: str) -> Path:
        """The file of a whole payload, to be read only."""
        if not self.has(digest):
            raise WireError("this payload is not here", where=digest)
        return self._path(digest)

    def sweep(self, keep: set[str], before: float | None = None) -> None:
        """Delete all payloads and parts whose digests are not in `keep`, and parts of payloads that are whole.

        Parameters
        ----------
        keep:
            Digests.
        before:
            Unix seconds: files that were written later stay, as those of payloads whose letter is still on its way.
            None: all go, so nobody may be writing.
        """
        for path in (*self.folder.iterdir(), *self._parts.iterdir()):
            digest = path.name.partition(".")[0]
            of_use = digest in keep and (path.parent == self.folder or not self.has(digest))
            if _DIGEST.fullmatch(digest) is None or of_use:
                continue
            with suppress(FileNotFoundError):  # another process was quicker
                if before is None or path.stat().st_mtime < before:
                    path.unlink()

    def _check_absent(self, digest: str) -> None:
        if self.has(digest):
            self._part(digest).unlink(missing_ok=True)
            raise WireError("the payload is here already", where=digest)

    def _path(self, digest: str) -> Path:
        if _DIGEST.fullmatch(digest) is None:
            raise WireError(f"{digest[:80]!r} is not a digest (64 lower-case hex digits)")
        return self.folder / digest

    def _part(self, digest: str) -> Path:
        return self._parts / self._path(digest).name

    @contextmanager
    def _held(self, digest: str, flags: int = 0) -> Iterator[FileIO]:
        """Open a part for this process alone. Raises WireError where another one has it."""
        path = self._part(digest)
        taken = Taken("somebody else sends this payload right now", where=digest, remedy="Try again")
        try:
            descriptor = os.open(path, os.O_RDWR | flags | getattr(os, "O_BINARY", 0), 0o600)
        except FileNotFoundError:
            raise taken from None
        with FileIO(descriptor, "r+b") as part:
            try:
                _try_lock(descriptor)
                # What was locked may have been finished or deleted between opening and locking.
                current = os.path.samestat(os.fstat(descriptor), path.stat())
            except (BlockingIOError, FileNotFoundError):
                current = False
            if not current:
                raise taken
            with _naming(path):
                yield part


def _check_offset(digest: str, offset: int, present: int) -> None:
    if offset != present:
        raise WireError(
            f"a piece begins at byte {offset}, where {present} are here",
            where=digest,
            remedy=f"Go on from byte {present}",
        )


def _write_all(file: FileIO, data: bytes | memoryview) -> None:
    """Write without a buffer, which would try again to write what did not fit on the disk."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[file.write(rest) :]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Give an OSError of an open file the path that it lacks."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; Windows has no such call."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with _naming(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
