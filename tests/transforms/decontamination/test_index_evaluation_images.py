import json
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from alignset.transforms.decontamination.evaluation_files import parts_of
from alignset.transforms.decontamination.evaluation_index import open_index
from alignset.transforms.decontamination.index_evaluation_images import IndexEvaluationImages
from alignset.transforms.decontamination.overlap_settings import EvaluationFile, EvaluationSet
from alignset.transforms.decontamination.perceptual_overlap import PerceptualMeasure
from alignset.transforms.workers.fencing import Fence
from tests.support.made_batches import run_in_beam
from tests.support.picture_files import encoded, photograph
from tests.support.tar_files import tar_of
from tests.transforms.decontamination.test_evaluation_index import names_of

BODIES = [encoded(photograph(seed), kind) for seed, kind in enumerate(("JPEG", "PNG", "WEBP"))]
MEASURE = PerceptualMeasure()


def indexed(files: list[EvaluationFile], folder: Path) -> tuple[Path | None, dict]:
    """The place of the index that Beam makes of some files in a folder, and its sets."""
    got: dict[str, list] = {"place": [], "sets": []}

    def build(pipeline: beam.Pipeline) -> None:
        fence = Fence(str(folder / "start"), "start")
        transform = IndexEvaluationImages(MEASURE, str(folder / "in"), str(folder / "work"), fence)
        for name, output in (pipeline | beam.Create(parts_of(files)) | transform).items():
            written = folder / f"{name}.json"
            encoded = output | f"Encode {name}" >> beam.Map(_plain)
            encoded | f"Write {name}" >> beam.Map(written.write_text)
            assert_that(
                encoded | f"Count {name}" >> beam.combiners.Count.Globally(),
                equal_to([1]),
                label=name,
            )

    run_in_beam(build)
    got = {name: json.loads((folder / f"{name}.json").read_text()) for name in got}
    sets = {name: EvaluationSet(**counts) for name, counts in got["sets"].items()}
    return Path(got["place"]) if got["place"] else None, sets


def _plain(value: object) -> str:
    return json.dumps(value, default=vars)


def test_files_to_an_index(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(BODIES[1])
    tar = tar_of(tmp_path / "b.tar", {"1.jpg": BODIES[0], "2.webp": b""})
    files = [EvaluationFile("two", tar), EvaluationFile("one", str(tmp_path / "a.png"))]
    place, sets = indexed(files, tmp_path)
    assert place is not None
    assert place.parent == tmp_path / "in"
    assert sets == {"one": EvaluationSet(1, 0), "two": EvaluationSet(1, 1)}
    index = open_index(str(place), MEASURE)
    assert index is not None
    assert names_of(index, [0, 1]) == [("one", "a.png"), ("two", "b.tar/1.jpg")]


def test_an_index_is_made_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.png").write_bytes(BODIES[1])
    (tmp_path / "b.png").write_bytes(b"")
    files = [EvaluationFile("one", str(tmp_path / name)) for name in ("a.png", "b.png")]
    place, sets = indexed(files, tmp_path)
    assert place is not None
    made = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    caplog.clear()
    assert indexed(files, tmp_path) == (place, sets)
    assert {path: path.stat().st_mtime_ns for path in place.iterdir()} == made
    assert "1 of the evaluation images cannot be decoded" in caplog.text
    assert "b.png …" not in caplog.text  # there are no more

    (place / "phashes.u64").write_bytes(b"")  # as a killed run may have left it
    assert indexed(files, tmp_path) == (place, sets)
    assert (place / "phashes.u64").stat().st_size == 8


def test_a_set_of_which_nothing_can_be_decoded_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(BODIES[1])
    files = [EvaluationFile(of, str(tmp_path / f"{of}.png")) for of in ("a", "b")]
    with pytest.raises(Exception, match="none of the 1 of a can be decoded"):
        indexed(files, tmp_path)
    assert not list(tmp_path.glob("in/*/description.json"))
