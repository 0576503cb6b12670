"""Whether the coordinator of a folder answers on this machine: `python healthy.py FOLDER` ends with 0, or with 1."""

from __future__ import annotations

import http.client
import ssl
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit


def main(folder: Path) -> int:
    """Ask for `/health`, at the port of the address in consortium.toml."""
    try:
        settings = tomllib.loads((folder / "consortium.toml").read_text(encoding="utf-8"))
        # The certificate is for the name in the address, which need not lead here; the authority is what counts.
        context = ssl.create_default_context(cafile=folder / "authority.pem")
        context.check_hostname = False
        port = urlsplit(settings["address"]).port or 443
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=5)
        connection.request("GET", "/health")
        return int(connection.getresponse().status != 200)
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
