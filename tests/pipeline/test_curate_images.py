"""The image stage is run again where a worker process died, as long as that helps."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alignset.pipeline.curate import Places
from alignset.pipeline.curate_images import run_images
from alignset.pipeline.runs.engine import WorkerDiedError
from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.workers.attempts import Attempt

PLANNED = {0: 10, 1: 10, 2: 10}


class Engine:
    """Of whose pipelines each writes so many shards and, but for the last, loses a worker."""

    def __init__(self, out: Path, *written: int) -> None:
        self._out, self._written, self._next = out, list(written), 0

    @contextmanager
    def pipeline(self, _: str) -> Iterator[None]:
        yield
        for _ in range(self._written.pop(0)):
            (self._out / f"shards/{self._next:05d}_stats.json").touch()
            self._next += 1
        if self._next < len(PLANNED):
            raise WorkerDiedError("a worker process died, and again")


@pytest.mark.parametrize(
    ("written", "helps"),
    [((3,), True), ((0, 1, 2), True), ((0, 0), False), ((1, 1, 0), False)],
)
def test_it_is_run_again_while_shards_are_written(
    tmp_path: Path, written: tuple[int, ...], helps: bool, caplog: pytest.LogCaptureFixture
):
    """What an earlier start may have died of is named, once."""
    (tmp_path / "shards").mkdir()
    work = WorkFolder(str(tmp_path / "_temporary"))
    Path(work.path).mkdir()
    for name in ("00001", "00002", "evaluation-ab"):
        Attempt(work.attempts, name, {})
    places = Places(str(tmp_path), work, Blocks())
    built: list[None] = []
    try:
        run_images(Engine(tmp_path, *written), places, PLANNED, None, built.append, verb="fetch")
        assert helps
    except WorkerDiedError:
        assert not helps
    assert len(built) == len(written)
    named = [line.partition(" under way ")[0] for line in caplog.messages if "under way" in line]
    assert named == ["2 shards", "1 part of the evaluation images"]
