"""What a machine of a cluster does not see fails the job, in one line with the machine's name."""

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pytest

from alignset.pipeline.inputs.readers import read_split
from alignset.pipeline.inputs.splits import Split
from alignset.transforms.arrivals.stored_images import SOURCE, stored_bodies
from alignset.transforms.pages.page_counts import PageTally
from alignset.transforms.pages.page_files import PageFiles
from alignset.transforms.pages.parse_pages import pairs_of
from alignset.transforms.storage import shared_paths
from alignset.transforms.storage.broken_files import BrokenFile
from alignset.transforms.storage.shared_paths import (
    MOST_CHECKED,
    SharedPaths,
    check_command,
    input_fault,
    one_of_each_folder,
    stop_file,
)

HERE, LOCK = socket.gethostname(), "out/_temporary/_lock"
OUT = "out: --output must be on a file system that all machines share, or in a store"


@pytest.fixture(autouse=True)
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[SharedPaths]:
    """What this process has checked: nothing yet. It runs beside an output and its lock."""
    found = set[SharedPaths]()
    monkeypatch.setattr(shared_paths, "_checked", found)
    monkeypatch.setattr(shared_paths, "_LATEST", [])
    monkeypatch.setattr(shared_paths, "_looked_at", {})
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    for folder in ("out/_temporary", "unmounted"):
        Path(folder).mkdir(parents=True)
    Path(LOCK).write_text('{"run": "second", "earlier": ["first"]}')
    return found


@pytest.mark.parametrize(
    ("lock", "start", "read", "said"),
    [
        (LOCK, "third", "out", f" does not see {OUT}"),
        (f"{LOCK}_", "first", "out", f" does not see {OUT}"),
        (LOCK, "first", "in/6.parquet", " does not see in/6.parquet: all machines must"),
        (LOCK, "first", "in/\udce9", r" does not see in/\xe9: all machines must"),
        (LOCK, "first", "unmounted", " does not see unmounted: all machines must"),
        (
            *(LOCK, "first", f"{LOCK}/a"),
            f" does not see {LOCK}/a ([Errno 20] Not a directory: '{LOCK}/a'): all machines must",
        ),
        (
            *(LOCK, "first", "hf://datasets/a/b"),
            ": hf:// needs huggingface_hub: pip install huggingface_hub",
        ),
    ],
)
def test_each_path_is_looked_for_once_in_a_process(
    lock: str, start: str, read: str, said: str, checked: set[SharedPaths]
):
    with pytest.raises(RuntimeError) as raised:
        SharedPaths(lock, start, ("out", read)).check()
    assert str(raised.value) == HERE + said
    assert not checked, "a worker that does not see all must not pass at its next element"
    for start in ("first", "second"):  # what a job of an earlier start may write is judged later
        shared = SharedPaths(LOCK, start, ("out", LOCK))
        shared.check()
        assert shared in checked
    os.unlink(LOCK)
    shared.check()


@pytest.mark.parametrize(
    ("path", "error", "detail", "fails"),
    [
        ("/in/a", FileNotFoundError(errno.ENOENT, "a"), "gone", True),
        ("/in/a", PermissionError(errno.EACCES, "a"), "no_access", True),
        ("/in/a", OSError(errno.EIO, "a"), "damaged", False),
        ("s3://b/a", FileNotFoundError("there is no s3://b/a"), "gone", False),
    ],
)
def test_input_that_only_some_machines_see_is_not_left_out(
    path: str, error: Exception, detail: str, fails: bool, checked: set[SharedPaths]
):
    fault = input_fault(path, error)
    assert isinstance(fault, BrokenFile), "in process"
    assert fault.detail == detail
    checked.add(SharedPaths("lock", "first"))
    if not fails:
        assert input_fault(path, error) == fault
        return
    with pytest.raises(RuntimeError, match=f"{HERE} does not see {path}.*: all machines must"):
        input_fault(path, error)


@pytest.mark.parametrize(
    "read",
    [
        lambda: read_split(Split("gone", "csv", "", "url", "text"), 9, skip_broken=True),
        lambda: read_split(Split("gone", "webdataset"), 9, skip_broken=True),
        lambda: pairs_of(PageFiles("html", (("gone", ""),)), PageTally()),
        lambda: stored_bodies(pa.table([["gone"], [0], [9]], names=[*SOURCE]), 9),
    ],
)
def test_all_that_reads_input_fails(read: Callable[[], Iterable], checked: set[SharedPaths]):
    assert len(list(read())) == 1, "in process"
    checked.add(SharedPaths("lock", "first"))
    with pytest.raises(RuntimeError, match=f"{HERE} does not see gone: all machines must"):
        list(read())


@pytest.mark.parametrize("folders", [0, 1, MOST_CHECKED, MOST_CHECKED + 1, 1000])
def test_workers_look_for_few_of_many_files(folders: int):
    paths = [f"/in/{folder:04d}/{file}" for folder in range(folders) for file in range(3)]
    found = one_of_each_folder(["s3://b/x/1", "s3://b/y/2", *paths])
    assert len(found) == len({path[:8] for path in found}) <= MOST_CHECKED
    assert found[0] == "s3://b/x/1"


def test_a_worker_ends_its_work_where_the_command_was_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All its threads end after the one look. The next start, which uses the same worker, goes
    on."""
    check_command()  # of nothing
    Path(stop_file(LOCK, "first")).write_bytes(b"")
    monkeypatch.setattr(shared_paths, "_LOOK_S", 3600.0)
    for start, is_stopped in (("first", True), ("second", False)):
        SharedPaths(LOCK, start).check()
        for _ in range(2):
            with pytest.raises(RuntimeError, match="stopped") if is_stopped else nullcontext():
                check_command()
