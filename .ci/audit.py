"""Is any of the versions in constraints.txt known to be vulnerable? Asks OSV (https://osv.dev) by pip-audit.

Where the service cannot be reached, that is said, and nothing was audited; everything else that goes wrong fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

SERVICE = "https://api.osv.dev/v1/query"
KNOWN = {"package": {"name": "jinja2", "ecosystem": "PyPI"}, "version": "3.1.2"}
"""Vulnerable (CVE-2024-22195): a service that does not know that one is of no use."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Look for versions that are known to be vulnerable.")
    parser.add_argument("requirements", type=Path, help="a file of exact versions, such as constraints.txt")
    parser.add_argument("--service", default=SERVICE, help="address of an OSV service")
    asked = parser.parse_args()
    try:
        known = _vulnerabilities(asked.service)
    except OSError as error:  # urllib's errors are some
        print(f"Dependencies were NOT audited: {asked.service} cannot be reached ({error})")
        return 0
    if not known:
        print(f"{asked.service} does not know that jinja2 3.1.2 is vulnerable: nothing it says is worth anything")
        return 1
    options = ["--no-deps", "--disable-pip", "--strict", "--progress-spinner=off", "--desc=off"]
    command = [sys.executable, "-m", "pip_audit", *options, "--vulnerability-service=osv", f"--osv-url={asked.service}"]
    return subprocess.run([*command, f"--requirement={asked.requirements}"], check=False).returncode


def _vulnerabilities(service: str) -> list[object]:
    """What the service says of a version that is known to be vulnerable. Raises OSError where it cannot be reached."""
    question = urllib.request.Request(  # noqa: S310 - the address is ours
        service, json.dumps(KNOWN).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(question, timeout=15) as answer:  # noqa: S310
        try:
            found = json.load(answer)
        except ValueError:
            return []
    return list(found.get("vulns", [])) if isinstance(found, dict) else []


if __name__ == "__main__":
    sys.exit(main())
