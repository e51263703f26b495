"""The image stage is run again where a worker process died, as long as that helps."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alignset.pipeline import curate_images as module
from alignset.pipeline.curate import Places
from alignset.pipeline.curate_images import DECODE_S, run_images, scoring_cost
from alignset.pipeline.runs.engine import WorkerDiedError
from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.transforms.safety.classifier import Classifier
from alignset.transforms.safety.model_files import describe_model
from alignset.transforms.shards.plan_shards import claim_path
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.workers.claims import Claim
from alignset.transforms.workers.fencing import Fence
from tests.support.onnx_files import write_model

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


def run(folder: Path, *written: int, resumed: bool = False) -> int:
    """How often the steps are built."""
    (folder / "shards").mkdir()
    work = WorkFolder(str(folder / "_temporary"))
    places = Places(str(folder), work, Blocks(), Fence(work.start, "second"))
    Claim(claim_path(work.plan, 2), Fence(work.start, "first"))
    Claim(f"{work.path}/evaluation-ab.rows.claim", Fence(work.start, "first"))
    built: list[None] = []
    how = {"verb": "fetch", "resumed": resumed}
    run_images(Engine(folder, *written), places, PLANNED, None, built.append, **how)
    return len(built)


@pytest.mark.parametrize("written", [(3,), (0, 1, 2)])
def test_until_all_are_written(tmp_path: Path, written: tuple[int, ...]):
    assert run(tmp_path, *written) == len(written)


@pytest.mark.parametrize("written", [(0, 0), (1, 1, 0)])
def test_where_no_shard_more_is_written_it_ends(tmp_path: Path, written: tuple[int, ...]):
    with pytest.raises(WorkerDiedError):
        run(tmp_path, *written)


def test_what_an_earlier_start_may_have_died_of_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run(tmp_path, 3, resumed=True)
    named = [message.partition(" under way ")[0] for message in caplog.messages]
    assert named == ["1 shard", "1 part of the evaluation images"]


def test_a_first_start_looks_for_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    run(tmp_path, 3)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("pairs", "shown"),
    [
        (1_001, "about 17 core-minutes;"),
        (3_600, "about 1.0 core-hours;"),
        (5_040, "about 1.4 core-hours;"),
        (126_720_000, "about 35,200 core-hours;"),
    ],
)
def test_the_time_in_a_unit_of_its_size(
    pairs: int, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "cpu_s_an_image", lambda self: 1.0 - DECODE_S)
    model = describe_model(str(write_model(tmp_path)))
    line = scoring_cost(model, pairs)
    assert line.startswith("images get NSFW scores: ")
    assert shown in line
    assert line.endswith("; --unsafe_model= turns it off")


def test_for_few_images_no_time_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(Classifier, "cpu_s_an_image")
    model = describe_model(str(write_model(tmp_path)))
    assert scoring_cost(model, 1_000) == "images get NSFW scores; --unsafe_model= turns it off"


def test_on_a_gpu_no_time_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        on_gpu = True

    monkeypatch.setattr(module, "open_classifier", lambda model: OnGpu())
    model = describe_model(str(write_model(tmp_path)))
    assert scoring_cost(model, 5).startswith("images get NSFW scores on a GPU; ")
