"""A database for every test: a file of SQLite, and a PostgreSQL that is started for the session."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from fedstill.service.store import databases
from fedstill.service.store.store import Store


def find(program):
    places = [shutil.which(program), *map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}")))]
    found = next((place for place in places if place), None)
    return found or pytest.skip(f"PostgreSQL is not installed: there is no {program}")


class Server:
    """A PostgreSQL that listens on a socket in a folder and belongs to a user who is not root."""

    def __init__(self, folder):
        import pwd

        names = {entry.pw_name for entry in pwd.getpwall()}
        user = next(name for name in ("postgres", "nobody") if name in names) if os.geteuid() == 0 else None
        self.folder, self.user, self.pg_ctl = folder, user, find("pg_ctl")
        if user:
            shutil.chown(folder, user)
        self._run(find("initdb"), "-D", f"{folder}/data", "-U", "fedstill", "--auth=trust", "--no-sync", "-E", "UTF8")
        self.start()

    def _run(self, *command):
        done = subprocess.run(
            command, user=self.user, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()

    def start(self):
        # No fsync: the machine is not switched off here, and what a process has written outlives it.
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        log = f"{self.folder}/log"
        self._run(self.pg_ctl, "-D", f"{self.folder}/data", "-w", "-t", "50", "-l", log, "-o", options, "start")

    def stop(self):
        self._run(self.pg_ctl, "-D", f"{self.folder}/data", "-w", "-m", "immediate", "stop")

    def empty(self):
        """The URL of its database, with nothing in it."""
        import psycopg

        url = f"postgresql://fedstill@/postgres?host={self.folder}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return url


@pytest.fixture(scope="session")
def postgresql():
    pytest.importorskip("psycopg")
    if sys.platform == "win32":
        pytest.skip("PostgreSQL is started as it is on POSIX")
    with tempfile.TemporaryDirectory(prefix="pg") as folder:  # short: a socket's path has about 100 characters
        server = Server(folder)
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """A database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.sqlite"
    return request.getfixturevalue("postgresql").empty()


@pytest.fixture
def opened(url):
    """Opens stores of the database, each as if it were in a process of its own."""
    stores = []

    def open_one():
        stores.append(Store.open(url))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(opened):
    return opened()


@pytest.fixture
def tamper(url):
    """Does to the database what a store would not."""

    def run(*statements):
        engine = databases.engine(url)[0]
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()

    return run


@pytest.fixture
def together():
    """Calls all at the same time, each in a thread, and returns or raises what they do."""

    def together(*calls):
        barrier, results = threading.Barrier(len(calls)), [None] * len(calls)

        def one(n, call):
            barrier.wait()
            try:
                results[n] = call()
            except Exception as error:
                results[n] = error

        threads = [threading.Thread(target=one, args=pair) for pair in enumerate(calls)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    return together
