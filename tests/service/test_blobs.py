"""Payloads on disk: in pieces, by several writers, through crashes and full disks, a file is the payload or is not."""

# ruff: noqa: S311 - chance that can be repeated
from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import random
import shutil
import stat
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedstill.errors import DataError, WireError
from fedstill.service.store import blobs as blobs_module
from fedstill.service.store.blobs import Blobs

HELLO = hashlib.sha256(b"hello").hexdigest()
posix = pytest.mark.skipif(sys.platform == "win32", reason="limits, locks and kills of POSIX")


def names(blobs):
    return sorted(path.relative_to(blobs.folder).as_posix() for path in blobs.folder.rglob("*") if path.is_file())


@pytest.fixture
def blobs(tmp_path):
    return Blobs(tmp_path / "new" / "blobs", max_bytes=1000)


def test_pieces_become_a_payload(blobs):
    assert (blobs.has(HELLO), blobs.offset(HELLO)) == (False, 0)
    blobs.append(HELLO, 0, b"hel")
    blobs.append(HELLO, 3, b"lo")
    assert (blobs.has(HELLO), blobs.offset(HELLO)) == (False, 5)
    blobs.finish(HELLO)
    assert (blobs.has(HELLO), blobs.offset(HELLO), blobs.get(HELLO)) == (True, 5, b"hello")
    assert blobs.open_path(HELLO).read_bytes() == b"hello"
    blobs.finish(HELLO)  # the answer to the first one may have got lost
    assert names(blobs) == [HELLO]


def test_a_payload_at_once(blobs):
    assert blobs.put(memoryview(b"hello")) == HELLO
    assert blobs.put(b"hello") == HELLO
    assert (blobs.get(HELLO), names(blobs)) == (b"hello", [HELLO])


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300)), lost=st.randoms(use_true_random=False))
def test_any_cuts_give_the_same_file(data, cuts, lost):
    """Each piece comes to a process that was just started; now and then one comes twice, since its answer got lost."""
    digest = hashlib.sha256(data).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
        for start, end in [(0, 0), *itertools.pairwise(ends)]:
            assert Blobs(folder, 300).offset(digest) == start
            Blobs(folder, 300).append(digest, start, data[start:end])
            if start < end and lost.random() < 0.3:
                with pytest.raises(WireError, match=f"{end} are here"):
                    Blobs(folder, 300).append(digest, start, data[start:end])
        Blobs(folder, 300).finish(digest)
        assert Blobs(folder, 300).get(digest) == data
        assert names(Blobs(folder, 300)) == [digest]


@pytest.mark.parametrize("offset", [1, 3, 4, 500])
def test_a_piece_elsewhere_is_refused(blobs, offset):
    blobs.append(HELLO, 0, b"he")
    with pytest.raises(WireError, match="Go on from byte 2"):
        blobs.append(HELLO, offset, b"llo")
    assert blobs.offset(HELLO) == 2


def test_a_piece_that_does_not_fit_leaves_no_file(blobs):
    with pytest.raises(WireError, match="Go on from byte 0"):
        blobs.append(HELLO, 3, b"lo")
    assert names(blobs) == []


def test_a_wrong_digest_is_deleted_and_can_be_sent_again(blobs):
    blobs.append(HELLO, 0, b"help!")
    with pytest.raises(WireError, match=f"digest {hashlib.sha256(b'help!').hexdigest()}"):
        blobs.finish(HELLO)
    assert (names(blobs), blobs.offset(HELLO)) == ([], 0)
    blobs.append(HELLO, 0, b"hello")
    blobs.finish(HELLO)
    assert blobs.get(HELLO) == b"hello"


def test_what_is_over_the_bound_is_refused(blobs):
    whole = bytes(1000)
    digest = hashlib.sha256(whole).hexdigest()
    blobs.append(digest, 0, whole[:999])
    with pytest.raises(WireError, match="1001 bytes is over the bound of 1000"):
        blobs.append(digest, 999, b"12")
    with pytest.raises(WireError, match="1001 bytes is over the bound of 1000"):
        blobs.put(bytes(1001))
    blobs.append(digest, 999, whole[999:])
    blobs.finish(digest)
    assert blobs.get(digest) == whole


def test_what_is_not_here(blobs):
    for ask in (blobs.finish, blobs.get, blobs.open_path):
        with pytest.raises(WireError, match=r"not here|nothing of this"):
            ask(HELLO)
    blobs.put(b"hello")
    with pytest.raises(WireError, match="here already"):
        blobs.append(HELLO, 5, b"x")
    assert names(blobs) == [HELLO]


@pytest.mark.parametrize(
    "digest",
    [
        *("", "..", "../" + HELLO, "parts", "/etc/passwd", HELLO[:-1], HELLO + "0", HELLO.upper(), HELLO + "\n"),
        *("\0" * 64, "٣" * 64, HELLO[:-3] + "/..", "." * 64, "g" * 64),
    ],
)
def test_what_is_no_digest_touches_no_path(tmp_path, digest):
    blobs = Blobs(tmp_path / "blobs", 1000)
    calls = (blobs.has, blobs.offset, blobs.finish, blobs.get, blobs.open_path, lambda d: blobs.append(d, 0, b"x"))
    for call in calls:
        with pytest.raises(WireError, match="64 lower-case hex digits"):
            call(digest)
    assert [path.name for path in tmp_path.rglob("*")] == ["blobs", "parts"]


def test_a_damaged_file_is_named(blobs):
    blobs.put(b"hello")
    blobs.open_path(HELLO).write_bytes(b"jello")
    with pytest.raises(DataError, match=f"{HELLO}: the file is not what it was"):
        blobs.get(HELLO)


def test_sweep_keeps_what_it_is_told(blobs):
    kept, gone = blobs.put(b"kept"), blobs.put(b"gone")
    part, young = "1" * 64, "2" * 64
    blobs.append(part, 0, b"x")
    blobs.append(young, 0, b"x")
    (blobs.folder / "parts" / kept).write_bytes(b"ke")  # it is whole: this part is of no use
    os.utime(blobs.folder / "parts" / kept, (99.0, 99.0))
    (blobs.folder / "readme").write_text("not a payload")
    for digest in (kept, gone):
        os.utime(blobs.open_path(digest), (100.0, 100.0))
    os.utime(blobs.folder / "parts" / part, (99.0, 99.0))
    blobs.sweep({kept}, before=100.0)
    assert names(blobs) == sorted([kept, gone, f"parts/{young}", "readme"])
    blobs.sweep({kept})
    assert names(blobs) == sorted([kept, "readme"])


def upload(folder, data, barrier, rng):
    """What a participant does: asks how far it is, sends a piece, and again when it is told no."""
    digest = hashlib.sha256(data).hexdigest()
    blobs = Blobs(folder, len(data))
    barrier.wait()
    while not blobs.has(digest):
        with suppress(WireError):
            start = blobs.offset(digest)
            if start < len(data):
                blobs.append(digest, start, data[start : start + rng.randint(1, 2000)])
            else:
                blobs.finish(digest)


@posix
@pytest.mark.parametrize("seed", range(3))
def test_two_send_the_same_payload(tmp_path, seed):
    """Two processes add pieces to one part, each as if it were alone."""
    data = random.Random(seed).randbytes(50_000)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    writers = [
        context.Process(target=upload, args=(tmp_path, data, barrier, random.Random(seed + n))) for n in range(2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    assert [writer.exitcode for writer in writers] == [0, 0]
    blobs = Blobs(tmp_path, len(data))
    assert names(blobs) == [hashlib.sha256(data).hexdigest()]
    assert blobs.get(hashlib.sha256(data).hexdigest()) == data


def test_many_put_the_same_payload(tmp_path):
    data, digests = bytes(200_000), []
    barrier = threading.Barrier(4)

    def put():
        blobs = Blobs(tmp_path, len(data))
        barrier.wait()
        digests.append(blobs.put(data))

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(digests) == {hashlib.sha256(data).hexdigest()}
    assert len(digests) == 4
    assert names(Blobs(tmp_path, 1)) == [digests[0]]


@posix
def test_a_part_is_written_by_one_at_a_time(blobs):
    import fcntl

    blobs.append(HELLO, 0, b"he")
    with (blobs.folder / "parts" / HELLO).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for call in (lambda: blobs.append(HELLO, 2, b"llo"), lambda: blobs.finish(HELLO)):
            with pytest.raises(WireError, match="somebody else sends"):
                call()
    blobs.append(HELLO, 2, b"llo")
    blobs.finish(HELLO)
    assert blobs.get(HELLO) == b"hello"


@posix
@pytest.mark.parametrize("when", ["before it is opened", "before it is locked"])
@pytest.mark.parametrize(
    ("ours", "theirs", "left"),
    [
        (lambda b: b.append(HELLO, 4, b"o"), lambda b: b.append(HELLO, 4, b"o"), (5, False)),
        (lambda b: b.append(HELLO, 4, b"o"), lambda b: finish_hello(b, 4), (5, True)),
        (lambda b: b.finish(HELLO), lambda b: finish_hello(b, 4), (5, True)),
    ],
)
def test_another_process_is_quicker_by_a_hair(blobs, monkeypatch, when, ours, theirs, left):
    """It steps in at the worst moment; we are refused, and nothing of its payload is lost."""
    blobs.append(HELLO, 0, b"hell")
    module, name = (os, "open") if when == "before it is opened" else (blobs_module, "_try_lock")
    original = getattr(module, name)

    def step_in(*arguments):
        monkeypatch.setattr(module, name, original)
        theirs(Blobs(blobs.folder, 1000))
        return original(*arguments)

    monkeypatch.setattr(module, name, step_in)
    with pytest.raises(WireError, match=r"Try again|5 are here|here already"):
        ours(blobs)
    assert (blobs.offset(HELLO), blobs.has(HELLO)) == left
    blobs.finish(HELLO)
    assert (names(blobs), blobs.get(HELLO)) == ([HELLO], b"hello")


@posix
@pytest.mark.parametrize(("module", "name"), [(os, "open"), (blobs_module, "_try_lock")])
def test_what_another_process_has_finished_is_not_begun_anew(blobs, monkeypatch, module, name):
    original = getattr(module, name)

    def step_in(*arguments):
        monkeypatch.setattr(module, name, original)
        Blobs(blobs.folder, 1000).put(b"hello")
        return original(*arguments)

    monkeypatch.setattr(module, name, step_in)
    with pytest.raises(WireError, match="here already"):
        blobs.append(HELLO, 0, b"h")
    assert names(blobs) == [HELLO]


def finish_hello(blobs, start=0):
    blobs.append(HELLO, start, b"hello"[start:])
    blobs.finish(HELLO)


@posix
@pytest.mark.parametrize("keep", [finish_hello, lambda blobs: blobs.put(b"hello")])
def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_answer(blobs, monkeypatch, keep):
    """No kill can show this: it takes a power failure."""
    steps, sync, replace = [], os.fsync, os.replace

    def synced(descriptor):
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "bytes")
        sync(descriptor)

    def replaced(source, target, **options):
        steps.append("name")
        replace(source, target, **options)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    keep(blobs)
    assert steps == ["bytes", "name", "folder"]
    keep_again = [lambda: blobs.put(b"hello"), lambda: blobs.finish(HELLO)]
    for again in keep_again:
        again()
    assert steps[3:] == ["folder", "folder"]


def put_for_ever(folder, told):
    blobs = Blobs(folder, 300_000)
    for n in range(10**6):
        os.write(told, bytes.fromhex(blobs.put(n.to_bytes(4, "big") * 50_000)))


@posix
def test_a_kill_leaves_nothing_half(tmp_path):
    """Whatever stands under its digest is whole, and what was reported is there."""
    rng = random.Random(0)
    reported = set()
    for _ in range(10):
        out, into = os.pipe()
        writer = multiprocessing.get_context("fork").Process(target=put_for_ever, args=(tmp_path, into))
        writer.start()
        os.close(into)
        first = os.read(out, 32)
        writer.join(rng.uniform(0, 0.02))
        writer.kill()
        writer.join()
        with os.fdopen(out, "rb") as rest:
            told = first + rest.read()
        reported |= {told[n : n + 32].hex() for n in range(0, len(told), 32)}
    blobs = Blobs(tmp_path, 300_000)
    there = {path.name for path in tmp_path.iterdir()} - {"parts"}
    assert reported <= there
    for digest in there:
        blobs.get(digest)
    blobs.sweep(there)
    assert {path.name.partition(".")[0] for path in (tmp_path / "parts").iterdir()} <= there


@contextmanager
def no_file_over(n_bytes):
    """A full disk: nothing can be written behind the first `n_bytes` of a file."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@posix
def test_a_full_disk_is_an_error_with_a_path(tmp_path):
    data = random.Random(1).randbytes(3_000_000)
    digest = hashlib.sha256(data).hexdigest()
    blobs = Blobs(tmp_path, len(data))
    with no_file_over(2**20):
        with pytest.raises(OSError, match=digest):
            blobs.put(data)
        assert names(blobs) == []
        with pytest.raises(OSError, match=digest) as caught:
            blobs.append(digest, 0, data)
    assert Path(caught.value.filename) == tmp_path / "parts" / digest
    there = blobs.offset(digest)  # when there is room again, the sender goes on from here
    assert 0 < there < len(data)
    blobs.append(digest, there, data[there:])
    blobs.finish(digest)
    assert blobs.get(digest) == data


@posix
def test_a_folder_that_cannot_be_written_is_named():
    folder = Path(tempfile.mkdtemp())
    try:
        blobs = Blobs(folder / "blobs", 1000)
        with nobody(folder):
            for call in (lambda: blobs.put(b"hello"), lambda: blobs.append(HELLO, 0, b"he")):
                with pytest.raises(PermissionError, match=HELLO):
                    call()
            with pytest.raises(PermissionError, match="elsewhere"):
                Blobs(folder / "elsewhere", 1000)
    finally:
        shutil.rmtree(folder)


@contextmanager
def nobody(folder):
    """Be a user who can read the folder and not write; root could do everything."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_who_is_second_before_the_first_has_written_anything_is_told_to_try_again(tmp_path):
    """And not that its payload is wrong, which would end it."""
    transfer = pytest.importorskip("fedstill.service.http.transfer")
    blobs, payload = Blobs(tmp_path, 100), b"payload"
    digest = hashlib.sha256(payload).hexdigest()
    with blobs._held(digest, os.O_CREAT), pytest.raises(transfer.Refused) as second:
        transfer._write(Blobs(tmp_path, 100), digest, 0, bytearray(payload), last=True)
    assert second.value.status == 409
    transfer._write(blobs, digest, 0, bytearray(payload), last=True)
    assert blobs.has(digest)
