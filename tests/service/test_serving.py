"""Who takes the lead, and when."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from fedstill.service.serving import _gone


@pytest.mark.skipif(os.name != "posix", reason="asks the system in the POSIX way")
def test_only_a_process_of_this_machine_that_has_ended_is_gone() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = socket.gethostname()
    assert _gone(f"{host}:{ended.pid}")
    assert not _gone(f"{host}:{os.getpid()}")
    assert not _gone(f"another-{host}:{ended.pid}")
    assert not _gone("")
    assert not _gone(f"{host}:x")
