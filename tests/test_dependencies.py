"""The audit of dependencies fails where it should, says so where it audits nothing, and passes otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@contextmanager
def osv(vulnerable: set[tuple[str, str]]) -> Iterator[str]:
    """A service that knows these versions to be vulnerable; see https://google.github.io/osv.dev/post-v1-query."""

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = asked["package"]["name"]
            said: dict[str, Any] = {}
            if (name, asked["version"]) in vulnerable:
                fixed = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999"}]}
                affected = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [fixed]}
                said = {"vulns": [{"id": f"TEST-{name}", "summary": "bad", "affected": [affected]}]}
            body = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query"
        finally:
            server.shutdown()
            thread.join()


def audit(requirements: Path, service: str) -> tuple[int, str]:
    command = [sys.executable, str(ROOT / ".ci" / "audit.py"), str(requirements), "--service", service]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


KNOWN = ("jinja2", "3.1.2")


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    path = tmp_path / "pins.txt"
    path.write_text("# a comment\nattrs==26.1.0\nidna==3.20\n", encoding="utf-8")
    return path


def test_a_vulnerable_version_fails(pins: Path) -> None:
    pytest.importorskip("pip_audit", reason="pip-audit is not installed: make audit installs it")
    with osv({KNOWN, ("idna", "3.20")}) as service:
        code, said = audit(pins, service)
    assert code == 1
    assert "TEST-idna" in said
    with osv({KNOWN, ("idna", "3.19")}) as service:
        code, said = audit(pins, service)
    assert code == 0, said
    assert "No known vulnerabilities found" in said


def test_our_own_versions_can_be_audited() -> None:
    pytest.importorskip("pip_audit", reason="pip-audit is not installed: make audit installs it")
    with osv({KNOWN, ("numpy", "1.0")}) as service:
        code, said = audit(ROOT / "constraints.txt", service)
    assert code == 0, said
    assert "Skip Reason" not in said


def test_versions_that_are_not_exact_fail(pins: Path) -> None:
    pytest.importorskip("pip_audit", reason="pip-audit is not installed: make audit installs it")
    pins.write_text("idna>=3\n", encoding="utf-8")
    with osv({KNOWN}) as service:
        assert audit(pins, service)[0] != 0


def test_a_service_that_knows_nothing_fails(pins: Path) -> None:
    with osv(set()) as service:
        code, said = audit(pins, service)
    assert (code, "nothing it says is worth anything" in said) == (1, True)


def test_where_nothing_can_be_asked_that_is_said(pins: Path) -> None:
    code, said = audit(pins, "http://127.0.0.1:1/v1/query")
    assert code == 0
    assert said.startswith("Dependencies were NOT audited: http://127.0.0.1:1/v1/query cannot be reached")
