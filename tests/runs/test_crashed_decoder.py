"""Whole runs with an image that crashes its decoder: a process dies, and the image costs only
itself."""

import json
import signal
from pathlib import Path

import pytest

from tests.support.command import digests
from tests.support.crashed_decoder import NAMED, Crashing, crashing_pairs, run_crashing
from tests.support.crashing.sitecustomize import MARK
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb

# Worker and trial processes import for some 5 s of CPU each.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def crashing(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> Crashing:
    return crashing_pairs(web, tmp_path_factory.mktemp("crashing"))


def test_in_process_the_restart_finds_the_image(crashing: Crashing, tmp_path: Path):
    args = (*crashing.flags, f"--output={tmp_path}/set")
    first = run_crashing(*args)
    assert first.status == -signal.SIGABRT, first.err
    second = run_crashing(*args)
    assert second.status == 0, second.err
    assert NAMED in second.err
    assert f"a decoder crashes at {crashing.url}: please report it" in second.err
    crashing.check(tmp_path / "set")


def test_with_worker_processes_the_run_finds_it_by_itself(crashing: Crashing, tmp_path: Path):
    more = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    ended = run_crashing(*crashing.flags, f"--output={tmp_path}/set", *more)
    assert ended.status == 0, ended.err
    lines = ended.err.splitlines()
    assert "a worker process was ended by SIGABRT" in lines
    assert [line for line in lines if line.startswith("a worker process died: the ")], ended.err
    assert NAMED in ended.err
    crashing.check(tmp_path / "set")


def test_an_evaluation_image(crashing: Crashing, tmp_path: Path):
    """It cannot be decoded, like any that is broken."""
    (tmp_path / "exam").mkdir()
    (tmp_path / "exam/1.jpg").write_bytes(encoded(photograph(900), "JPEG"))
    (tmp_path / "exam/2.jpg").write_bytes(encoded(photograph(901), "JPEG") + MARK)
    args = (*crashing.flags, f"--output={tmp_path}/set", f"--eval_images=exam={tmp_path}/exam")
    first = run_crashing(*args)
    assert first.status == -signal.SIGABRT, first.err
    second = run_crashing(*args)
    assert f"1 part of the evaluation images {NAMED}" in second.err
    assert "1 of the evaluation images cannot be decoded" in second.err
    assert f"{tmp_path}/exam/2.jpg" in second.err
    # The images of shards are met by then, of which none was suspect.
    assert second.status == -signal.SIGABRT, second.err
    third = run_crashing(*args)
    assert third.status == 0, third.err
    described = json.loads((tmp_path / "set/manifest.json").read_text())["evaluation_images"]
    assert described["exam"] | {"images": 1, "unreadable": 1} == described["exam"]
    assert digests(tmp_path / "set").keys() == digests(crashing.expected).keys()
