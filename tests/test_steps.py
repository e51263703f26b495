"""The steps for pipelines of others: they keep, drop and write what the command does."""

import random
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that

import alignset
from alignset.transforms.storage.documents import add_counts
from tests.support.command import rejected
from tests.support.golden import evaluation_copy, evaluation_image
from tests.support.golden_run import Golden
from tests.support.made_batches import run_in_beam
from tests.support.picture_files import encoded, photograph


def batches_of(table: pa.Table, rows: int, seed: int) -> list[pa.RecordBatch]:
    """A table in batches, in some order; two of them are equal."""
    batches = [*table.to_batches(max_chunksize=rows), table.slice(0, 2).to_batches()[0]]
    batches.append(batches[-1])
    random.Random(seed).shuffle(batches)
    return batches


def curated(run: Golden, output: Path, seed: int) -> None:
    """A pipeline of the steps over the pairs of a run, in batches whose order the seed decides."""
    given, texts = run.arguments(), ("max_images", "max_texts", "vocab")
    of_texts = {name: value for name, value in given.items() if name.startswith(texts)}
    of_images = {name: value for name, value in given.items() if name not in of_texts}
    table = pq.read_table(run.pairs)

    def build(pipeline: beam.Pipeline) -> None:
        pairs = pipeline | beam.Create(batches_of(table, 37, seed))
        texts = pairs | alignset.FilterTexts(output, **of_texts)
        shards = texts["kept"] | alignset.FetchImages(output, **of_images)
        assert_that(texts["counts"], adds_up(len(table) + 4), label="texts")
        assert_that(shards | beam.Map(lambda stats: stats.counts), adds_up(), label="images")

    run_in_beam(build)


def adds_up(seen: int | None = None) -> Callable[[list], None]:
    def check(counts: list) -> None:
        total = add_counts(counts)
        assert seen in (None, total.seen)
        assert total.seen == total.kept + sum(total.dropped.values()) > 0

    return check


@pytest.fixture(scope="module")
def made(plain: Golden, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the steps make of the pairs of `plain`."""
    folder = tmp_path_factory.mktemp("steps") / "set"
    curated(plain, folder, 1)
    return folder


def test_they_keep_and_drop_what_the_command_does(plain: Golden, made: Path) -> None:
    dataset, expected = alignset.Dataset(made), alignset.Dataset(plain.output)
    assert dataset.kept().equals(expected.kept())
    assert [*dataset.samples()] == [*expected.samples()]
    reasons = sorted(fate.reason or "" for fate in rejected(plain.output))
    of_steps = sorted(fate.reason or "" for fate in rejected(made))
    assert of_steps == sorted([*reasons, *["duplicate_pair"] * 4])
    assert not (made / "_temporary").exists()


def test_no_pairs_make_no_shards(tmp_path: Path) -> None:
    none = pa.record_batch([pa.array([], pa.string())] * 2, names=["url", "caption"])

    def build(pipeline: beam.Pipeline) -> None:
        texts = pipeline | beam.Create([none]) | alignset.FilterTexts(tmp_path / "a")
        texts["kept"] | alignset.FetchImages(tmp_path / "a")

    run_in_beam(build)
    assert not (tmp_path / "a" / "shards").exists()


def test_copies_are_found(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "1.png").write_bytes(evaluation_image())
    images = [
        ("copy", evaluation_copy()),
        ("other", encoded(photograph(1), "PNG")),
        ("cut", evaluation_image()[:500]),
    ]

    def check(found: list) -> None:
        of = dict(found)
        assert of["copy"].is_copy
        assert (of["copy"].evaluation_set, of["copy"].evaluation_image) == ("cats", "1.png")
        assert not of["other"].is_copy
        assert of["other"].fault is None
        assert (of["cut"].is_copy, of["cut"].fault) == (False, "undecodable: truncated")

    def build(pipeline: beam.Pipeline) -> None:
        step = alignset.FindCopies({"cats": tmp_path / "val"}, tmp_path / "index")
        assert_that(pipeline | beam.Create(images) | step, check)

    run_in_beam(build)
    (made,) = (tmp_path / "index").iterdir()
    written = made.stat().st_mtime_ns
    run_in_beam(build)  # which uses it
    assert [path.stat().st_mtime_ns for path in (tmp_path / "index").iterdir()] == [written]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda out: alignset.FilterTexts(out, min_word=3), "FilterTexts takes no 'min_word'; did"),
        (lambda out: alignset.FilterTexts(out, min_image_side=3), "takes no 'min_image_side'"),
        (lambda out: alignset.FilterTexts(out, text_only=False), "takes no 'text_only'"),
        (lambda out: alignset.FilterTexts(out, min_column="a=1"), "takes no 'min_column'"),
        (lambda out: alignset.FetchImages(out, verify_hash="md5=a"), "takes no 'verify_hash'"),
        (lambda out: alignset.FetchImages(out, keep_most_similar=0.5), "takes no 'keep_most_si"),
        (lambda out: alignset.FilterTexts(out, min_words=-1), "min_words must be >= 0; got -1"),
        (lambda out: alignset.FetchImages(out, max_words=3), "FetchImages takes no 'max_words'"),
        (lambda out: alignset.FetchImages(out, eval_images={"a": out / "no"}), "no evaluation"),
        (lambda out: alignset.FindCopies({"a": out}, out, resize_mode="no"), "FindCopies takes no"),
    ],
)
def test_a_wrong_argument_raises_where_a_step_is_made(
    make: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(alignset.UsageError, match=said):
        make(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("element", "said"),
    [
        ({"url": "http://a/b", "caption": "a dog"}, "make one of some thousand dicts by pa.Recor"),
        (pa.table({"url": ["http://a/b"], "caption": ["a dog"]}), "got pyarrow.Table"),
        (pa.record_batch({"URL": ["http://a/b"], "TEXT": ["a dog"]}), "got URL, TEXT: rename them"),
        (pa.record_batch({"url": ["http://a/b"]}), "with one column caption; got url"),
    ],
)
def test_elements_that_are_not_batches_of_pairs_are_told(
    element: object, said: str, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match=said):
        run_in_beam(lambda p: p | beam.Create([element]) | alignset.FilterTexts(tmp_path / "out"))


def test_what_another_pipeline_wrote_is_not_written_over(plain: Golden) -> None:
    for step in (alignset.FilterTexts, alignset.FetchImages):
        with pytest.raises(alignset.UsageError, match="is not empty; pass another output"):
            step(plain.output)


def test_images_are_fetched_for_judged_texts(tmp_path: Path) -> None:
    batch = pa.record_batch([["http://a/b"], ["a dog"]], names=["url", "caption"])

    def build(pipeline: beam.Pipeline) -> None:
        pipeline | beam.Create([batch]) | alignset.FetchImages(tmp_path / "a")

    with pytest.raises(Exception, match="FetchImages takes batches of FilterTexts; one has no"):
        run_in_beam(build)
