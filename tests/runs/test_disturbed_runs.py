"""Runs whose processes are killed or paused, or crash: the same command ends them with the bytes of
a run that nothing disturbed."""

import contextlib
import json
import signal
import socket
from pathlib import Path

import pytest

from tests.support.command import digests, run_fork
from tests.support.disturbances import (
    NAMED,
    Disturbances,
    DisturbedPairs,
    command,
    disturbed_pairs,
    run_to_the_end,
    wait_until,
    wake,
)
from tests.support.disturbed.sitecustomize import MARK
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import PATIENT, SmallWeb
from tests.support.stores import Store

# Worker processes and children import for some 5 s of CPU each.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
MOMENTS = (
    *("texts", "fetching", "finished", "won", "publishing", "published", "rewriting"),
    "renumbering",
)


@pytest.fixture(scope="module")
def pairs(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> DisturbedPairs:
    return disturbed_pairs(web, tmp_path_factory.mktemp("disturbed"))


@pytest.fixture(scope="module")
def crashing(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> DisturbedPairs:
    return disturbed_pairs(web, tmp_path_factory.mktemp("crashing"), crash=True)


@pytest.fixture
def disturbances(tmp_path: Path) -> Disturbances:
    return Disturbances(tmp_path / "disturbances")


@pytest.mark.parametrize("runner", ["in process", "worker processes", "in a store"])
def test_killed_at_each_moment(
    request: pytest.FixtureRequest,
    crashing: DisturbedPairs,
    disturbances: Disturbances,
    tmp_path: Path,
    runner: str,
):
    """And by the image that crashes its decoder, which is dropped by its name."""
    out, more = str(tmp_path / "set"), PROCESSES if runner == "worker processes" else ()
    if runner == "in a store":
        store: Store = request.getfixturevalue("s3")
        out, more = f"{store.root}/killed", store.flags
    disturbances.environment()
    # Beam's runner does not notice that a worker process dies at the end of the text stage.
    moments = MOMENTS[runner == "worker processes" :]
    disturbances.plan(*((moment, signal.SIGKILL) for moment in moments))
    log, args = tmp_path / "log", (*crashing.flags, f"--output={out}", *more)
    statuses = run_to_the_end(args, log, disturbances, len(MOMENTS) + 4)
    said = log.read_text()
    assert f"a decoder crashes at {crashing.url}: please report it" in said
    assert NAMED in said
    assert "Traceback" not in said
    if runner == "worker processes":  # the command goes on by itself
        assert "a worker process was ended by SIGKILL\n" in said
        assert "\na worker process died: the " in said
        assert statuses.count(-signal.SIGKILL) < len(moments)
    else:
        assert statuses.count(-signal.SIGKILL) == len(MOMENTS)
    if runner == "in a store":
        store.download(out, tmp_path / "set")
    crashing.check(tmp_path / "set")


def test_paused_starts_that_wake_after_the_end_change_nothing(
    s3: Store, pairs: DisturbedPairs, disturbances: Disturbances, tmp_path: Path
):
    """One is paused at each moment, and loses its lease when its heartbeat stops."""
    moments = [moment for moment in MOMENTS if moment not in ("texts", "rewriting")]
    out = f"{s3.root}/paused"
    args = (*pairs.flags, f"--output={out}", *s3.flags)
    environment = disturbances.environment() | {"ALIGNSET_LEASE_S": "12"}
    disturbances.plan(*((moment, signal.SIGSTOP) for moment in moments))
    starts = []
    with contextlib.ExitStack() as stack:
        for number in range(len(moments)):
            log = tmp_path / f"log-{number}"
            starts.append(stack.enter_context(command(args, log, environment)))
            wait_until(lambda: starts[-1].pid in disturbances.paused(), starts[-1], log)
        log = tmp_path / "log"
        assert stack.enter_context(command(args, log, environment)).wait() == 0, log.read_text()
        pairs.check(s3.download(out, tmp_path / "before"))
        for process in disturbances.paused():
            wake(process)
        assert {start.wait() for start in starts} == {1}
    pairs.check(s3.download(out, tmp_path / "after"))
    assert "Traceback" not in "".join(path.read_text() for path in tmp_path.glob("log*"))


@pytest.mark.parametrize("place", ["local", "in a store"])
def test_of_two_starts_one_is_refused(
    request: pytest.FixtureRequest, web: SmallWeb, pairs: DisturbedPairs, tmp_path: Path, place: str
):
    out, more, log = str(tmp_path / "set"), (), tmp_path / "log"
    if place == "in a store":
        store: Store = request.getfixturevalue("s3")
        out, more = f"{store.root}/twice", store.flags
    args, begun = (*pairs.flags, *PATIENT, f"--output={out}", *more), len(web.requests)
    with command(args, log, {}) as first:
        with web.holding_after(5):
            wait_until(lambda: len(web.requests) > begun + 5, first, log)
            second = run_fork(*args)
        assert first.wait() == 0, log.read_text()
    assert (second.status, second.err.count("another run is writing to")) == (2, 1), second.err
    holder = f"writing to {out}: process {first.pid} on {socket.gethostname()}, since "
    assert holder in second.err
    assert "Traceback" not in second.err + log.read_text()
    if place == "in a store":
        store.download(out, tmp_path / "set")
    pairs.check(tmp_path / "set")


def test_an_evaluation_image_that_crashes_cannot_be_decoded(
    crashing: DisturbedPairs, disturbances: Disturbances, tmp_path: Path
):
    (tmp_path / "exam").mkdir()
    (tmp_path / "exam/1.jpg").write_bytes(encoded(photograph(900), "JPEG"))
    (tmp_path / "exam/2.jpg").write_bytes(encoded(photograph(901), "JPEG") + MARK)
    log, exam = tmp_path / "log", f"--eval_images=exam={tmp_path}/exam"
    args = (*crashing.flags, f"--output={tmp_path}/set", exam)
    # The images of shards are met after those, and none of them was suspect by then.
    statuses = run_to_the_end(args, log, disturbances, 3)
    assert statuses == [-signal.SIGABRT, -signal.SIGABRT, 0]
    said = log.read_text()
    assert f"1 part of the evaluation images {NAMED}" in said
    assert "1 of the evaluation images cannot be decoded" in said
    assert f"{tmp_path}/exam/2.jpg" in said
    described = json.loads((tmp_path / "set/manifest.json").read_text())["evaluation_images"]
    assert described["exam"] | {"images": 1, "unreadable": 1} == described["exam"]
    assert digests(tmp_path / "set").keys() == digests(crashing.expected).keys()
