"""A coordinator and three participants as four processes of this machine, five rounds over HTTPS.

    python examples/demo_network.py

Everything goes through the command line, as it would between machines; only the address is this machine's own. The
load is artificial. What is made lies in a temporary folder, which is gone at the end.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

LEARNERS = {"bakery": "lightgbm", "foundry": "extra_trees", "office": "linear"}
OPTIONS = {"lightgbm": "options={rounds=50}", "extra_trees": "options={trees=20}", "linear": "options={}"}
HISTORY = 'history=["2016-09-01", "2016-10-01"]'
SITES = "synthetic-0{}"
FEDERATION = """
name = "demo-network"
rounds = 5
deadline_s = 120

[task]
test = ["2016-11-01", "2016-12-01"]

[data]
file = "load.csv"

[transfer]
sites = [{public}]
history = ["2016-02-01", "2016-06-01"]
"""


def main() -> None:
    """Do what an operator and three enterprises would do."""
    with tempfile.TemporaryDirectory(prefix="fedstill-") as name:
        folder = Path(name)
        sites = artificial_load(folder / "load.csv")
        public = ", ".join(f'"{site}"' for site in sites[3:])
        tables = "".join(f'\n[[participants]]\nname = "{who}"\n' for who in LEARNERS)
        (folder / "FEDERATION.toml").write_text(FEDERATION.format(public=public) + tables, encoding="utf-8")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"https://127.0.0.1:{listener.getsockname()[1]}"
        fedstill(folder, "coordinator", "init", "consortium", "FEDERATION.toml", "--address", address)
        with running(folder, "coordinator", "serve", "consortium", "--log-level", "warning") as coordinator:
            until(coordinator, r"is served at")
            for (who, learner), site in zip(LEARNERS.items(), sites, strict=False):
                fedstill(folder, "coordinator", "invite", "consortium", who)
                invite = f"consortium/invites/{who}.invite"
                options = ["--learner", learner, "--set", OPTIONS[learner], "--set", f"site={site}", "--set", HISTORY]
                options += ["--set", "companions=[]"]
                fedstill(folder, "participant", "join", invite, "--data", "load.csv", *options)
            fedstill(folder, "participant", "terms", "bakery")
            with contextlib.ExitStack() as stack:
                work = [stack.enter_context(running(folder, "participant", "run", who, "--accept")) for who in LEARNERS]
                for who, process in zip(LEARNERS, work, strict=True):
                    said, _ = process.communicate(timeout=900)
                    sys.stdout.write("".join(f"  {who}: {line}\n" for line in said.splitlines()))
                    if process.returncode:
                        raise SystemExit(f"{who} failed")
            fedstill(folder, "coordinator", "status", "consortium")
            fedstill(folder, "participant", "log", "bakery")
        fedstill(folder, "audit", "verify", "consortium")


def artificial_load(path: Path) -> list[str]:
    """Write load of five artificial sites; returns their names."""
    from fedstill.energy.synthetic import synthetic

    frame = synthetic(5, 366)
    frame.to_csv(path, index=False)
    return sorted(frame["unique_id"].unique())


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fedstill.cli.main", *arguments]


def fedstill(folder: Path, *arguments: str) -> None:
    """Run a command and show it with what it says."""
    sys.stdout.write(f"$ fedstill {' '.join(arguments)}\n")
    sys.stdout.flush()
    subprocess.run(command(*arguments), cwd=folder, check=True)  # noqa: S603


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command in the background; stopped at the end."""
    sys.stdout.write(f"$ fedstill {' '.join(arguments)} &\n")
    sys.stdout.flush()
    process = subprocess.Popen(  # noqa: S603
        command(*arguments),
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # several processes share this machine
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def until(process: subprocess.Popen[str], pattern: str) -> None:
    """Wait for a line."""
    for line in process.stdout or ():
        if re.search(pattern, line):
            return
        sys.stdout.write(line)
    raise SystemExit("the coordinator did not start")


if __name__ == "__main__":
    main()
