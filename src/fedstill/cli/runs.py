"""What a run's folder says of the federation that was run, so that it can be run again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fedstill.config import FederationFile
from fedstill.errors import ConfigError
from fedstill.files import write_whole

NAME = "federation.json"


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    """A federation file with all changes of the command line, and the folder that its paths start from."""

    folder: str
    file: FederationFile


def keep(out: Path, file: FederationFile, folder: Path) -> None:
    """Write down what is run in this folder."""
    write_whole(out / NAME, msgspec.json.format(msgspec.json.encode(_Kept(str(folder.resolve()), file))))


def kept(out: Path) -> tuple[FederationFile, Path]:
    """The federation file and its folder. Raises ConfigError where no run was written to this one."""
    path = out / NAME
    if not path.is_file():
        raise ConfigError(
            "there is no finished run",
            where=str(out),
            remedy="Give the folder that `fedstill run` or `fedstill demo` wrote, of this version of fedstill or later",
        )
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), remedy="Run the federation again") from None
    return found.file, Path(found.folder)
