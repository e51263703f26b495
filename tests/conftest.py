"""Settings of all tests, and the one finished run that many of them look at."""

import gc
import hashlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from tests.support.forked_workers import fork_workers
from tests.support.golden_run import Golden
from tests.support.root import ROOT
from tests.support.small_web import SmallWeb, small_web

# Three workers on two cores; and several threads may share a sum out differently from run to run.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where containers forbid it, each worker and each command would compile 60,000 lines anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Embeddings that tests make stay out of the user's cache.
CACHE = tempfile.TemporaryDirectory(prefix="alignset-tests-")
os.environ["ALIGNSET_CACHE"] = CACHE.name
# Without a deadline: the first call of a kernel compiles it.
settings.register_profile("alignset", deadline=None, print_blob=True)
settings.load_profile("alignset")
# timm imports it where it is installed, for logs that no test asks for: 2 s for each worker. A test
# that wants it imports it.
sys.modules.setdefault("wandb", None)  # type: ignore[arg-type]
# What is imported while tests are collected is no garbage: 4 s of CPU for each worker.
gc.disable()
# A shell's background job ignores Ctrl-C, and so would the commands that are started here.
signal.signal(signal.SIGINT, signal.default_int_handler)


# The longest files, which must not be the last.
FIRST = ("tests/flink/", "tests/fuzz/", "tests/demo/", "tests/runs/test_peers.py")


# What not every machine has: a test that uses one of these fixtures is slow.
INSTALLED = {"browser", "flink"}


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of one folder wait for the same things, clocks, processes or servers: one after another
    several workers would wait at once, and the cores with them."""
    for item in items:
        if not INSTALLED.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: _turn(item.nodeid.partition("::")[0]))


def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    if config.getoption("markexpr") == "not slow":  # as in make test
        fork_workers()


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    # Slow tests wait for each other otherwise: there each worker makes the finished runs.
    quick = config.getoption("markexpr") == "not slow"
    return (_FilesByRun if quick else LoadFileScheduling)(config, log)


class _FilesByRun(LoadFileScheduling):
    """Files that look at the same finished runs go to one worker, which alone makes them: 12 s of
    CPU and more."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return _runs_of(path) or path


@lru_cache
def _runs_of(path: str) -> str:
    """The finished runs that a file of tests looks at, "" for none."""
    text = (ROOT / path).read_text()
    return next((runs for runs in (": Golden", ": DescribedSets") if runs in text), "")


@lru_cache
def _turn(path: str) -> tuple[bool, bytes]:
    first = path.startswith(FIRST) or bool(_runs_of(path))
    return not first, hashlib.sha256(path.encode()).digest()


def pytest_collection_finish() -> None:
    if sys.modules["wandb"] is None:
        del sys.modules["wandb"]
    gc.freeze()
    gc.set_threshold(10_000, 20)  # from 700 and 10: half the time of what collects, 20 ms of a run
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    assert not callable(handler), f"{item.nodeid} left {handler} for SIGTERM"


@pytest.fixture(scope="session")
def web() -> Iterator[SmallWeb]:
    with small_web() as server:
        yield server


@pytest.fixture(scope="session")
def golden(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """The golden set, run once. Do not write into its folder."""
    from tests.support import golden as made  # not at the top: other tests do not wait for Beam
    from tests.support.bad_web import bad_web
    from tests.support.command import succeed

    folder = tmp_path_factory.mktemp("golden")
    (folder / "exam").mkdir()
    (folder / "exam" / "1.png").write_bytes(made.evaluation_image())
    (folder / "exam" / "2.png").write_bytes(b"no picture")
    with bad_web() as bad:
        fates = made.good_fates(web) + made.text_fates(web) + made.image_fates(web, bad.url)
        pq.write_table(made.columns(fates), folder / "pairs.parquet")
        flags = (
            *made.FLAGS,
            f"--vocabulary_size={made.vocabulary_size(fates)}",
            f"--eval_images=exam={folder / 'exam'}",
        )
        ended = succeed(folder / "pairs.parquet", folder / "set", *flags)
    said = ended.err + ended.out
    return Golden(folder / "pairs.parquet", flags, fates, folder / "set", said)


@pytest.fixture(scope="session")
def plain(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """JPEGs that are all kept, in three shards, and the pairs that their texts drop; run once."""
    from tests.support import golden as made
    from tests.support.command import succeed

    folder = tmp_path_factory.mktemp("plain")
    kinds = len(made.good_files())
    fates = made.good_fates(web)[kinds:] + made.text_fates(web)
    pq.write_table(made.columns(fates), folder / "pairs.parquet")
    flags = (*made.FLAGS, f"--vocabulary_size={made.vocabulary_size(fates)}")
    ended = succeed(folder / "pairs.parquet", folder / "set", *flags)
    return Golden(folder / "pairs.parquet", flags, fates, folder / "set", ended.err)


@pytest.fixture(scope="session")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """Datasets by every command, each made when it is first asked for; not to be written into."""
    from tests.support.described_sets import DescribedSets

    with small_web() as server:
        yield DescribedSets(server, tmp_path_factory.mktemp("described"))


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Chromium, as Playwright's `Browser`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = "/usr/bin/chromium"
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(params=["local", "object store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder of this machine, and one of a store that is held in memory."""
    if request.param == "local":
        return str(tmp_path / "folder")
    from tests.support.memory_files import FILES  # not at the top: it brings Beam

    FILES.clear()
    return "mem://bucket/folder"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    from tests.support.stores import s3_store

    with s3_store(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(scope="module")
def gs(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    from tests.support.stores import gs_store

    with gs_store(tmp_path_factory.mktemp("gs")) as store:
        yield store
