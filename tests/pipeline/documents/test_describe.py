"""The description of a dataset: of 0.2 too, and refused where counts do not fit."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from msgspec import UNSET

from alignset.pipeline.deduplicate.__main__ import main as deduplicate
from alignset.pipeline.documents.describe import describe
from alignset.pipeline.documents.run_manifest import days_of, manifest_of_run
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.documents import Days, RunDescription
from alignset.pipeline.runs.run_folder import RunFolder
from alignset.pipeline.runs.work_folder import TextSummary, WorkFolder
from alignset.pipeline.takedown.__main__ import main as takedown
from alignset.transforms.storage.documents import read_document
from alignset.transforms.workers.counts import Counts
from tests.support.command import digests
from tests.support.golden_run import Golden

NOT_IN_0_2 = ("layout", "rows", "images_per_text", "texts_per_image")


@pytest.fixture
def out(golden: Golden, tmp_path: Path) -> Path:
    return Path(shutil.copytree(golden.output, tmp_path / "set"))


def change(path: Path, *without: str, **fields: object) -> None:
    document = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({n: of for n, of in document.items() if n not in without}))


def test_a_report_that_cannot_be_written_leaves_none_of_before(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (out / "report.html").exists()
    monkeypatch.setattr("alignset.pipeline.documents.describe.write_report", 1)
    describe(str(out))
    assert not (out / "report.html").exists()


@pytest.mark.parametrize("gone", ["of 0.2", "rejected/images-00000", "rejected/text-*"])
def test_what_only_a_missing_funnel_says_is_asked_for(
    out: Path, gone: str, capsys: pytest.CaptureFixture
) -> None:
    (out / "funnel.json").unlink()
    if gone == "of 0.2":
        change(out / "manifest.json", *NOT_IN_0_2)
    for path in out.glob(f"{gone}.parquet"):
        path.unlink()
    is_as_before_and_says(out, "funnel.json is missing: bring it back", 2, capsys)
    with pytest.raises(UsageError, match=r"funnel\.json is missing: bring it back"):
        describe(str(out))


@pytest.mark.parametrize("name", ["images-00000", "text-00000"])
def test_a_cut_file_is_named_before_anything_changes(
    out: Path, name: str, capsys: pytest.CaptureFixture
) -> None:
    path = out / f"rejected/{name}.parquet"
    path.write_bytes(path.read_bytes()[:-10])
    is_as_before_and_says(out, f"{path} cannot be read: ", 1, capsys)


def is_as_before_and_says(out: Path, said: str, status: int, capsys: pytest.CaptureFixture) -> None:
    """Commands that change a dataset, which ends each of them."""
    before = digests(out)
    (out.parent / "list.txt").write_text("host:127.0.0.1")
    listed = f"--blocklist={out.parent / 'list.txt'}"
    for command, *words in ((takedown, listed), (deduplicate,), (deduplicate, "--near")):
        assert command([str(out), *words]) == status
        assert said in capsys.readouterr().err
        assert digests(out) == before


def test_what_does_not_add_up_is_one_line_and_nothing_is_written(out: Path) -> None:
    before = digests(out)
    stats = min(out.glob("shards/*_stats.json"))
    rejects = max(out.glob("rejected/text-*"), key=lambda path: path.stat().st_size)
    for path, damage, error, line in (
        (stats, lambda: change(stats, successes=99), RuntimeError, "counts 99 pairs, and .* has"),
        (stats, stats.unlink, UsageError, "00000_stats.json is missing: bring it back"),
        (rejects, lambda: twice(rejects), RuntimeError, "had .* rows: bring the files back"),
        (rejects, lambda: rename(rejects), RuntimeError, "the funnel keeps .* pairs, but .* were"),
    ):
        body = path.read_bytes()
        damage()
        with pytest.raises(error, match=line):
            describe(str(out))
        path.write_bytes(body)
        assert digests(out) == before


def test_an_input_that_changed_between_its_readings_is_found(out: Path) -> None:
    folder = RunFolder(str(out), read_document(f"{out}/manifest.json", RunDescription))
    with pytest.raises(RuntimeError, match="found 4 rows and the second 3: did the input change"):
        manifest_of_run(folder, TextSummary(4, Counts(3, 3)), None)


def test_the_days_are_when_the_stages_ended(tmp_path: Path) -> None:
    for name, second in (("text.json", 1_778_900_000), ("images.json", 1_779_200_000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (second, second))
    files = [SimpleNamespace(format="parquet")]
    folder = SimpleNamespace(
        work=WorkFolder(str(tmp_path)), description=SimpleNamespace(input=files)
    )
    assert days_of(folder, {0: 1}) == Days("2026-05-16", "2026-05-19")
    before = Days("2025-01-01", "2025-01-02")
    assert days_of(folder, {0: 1}, before) == Days("2025-01-01", "2026-05-19")
    assert days_of(folder, {}) is UNSET
    files[0].format = "webdataset"
    assert days_of(folder, {0: 1}) is UNSET


def rename(path: Path) -> None:
    """Drops pairs for a reason that no step has."""
    rows = pq.read_table(path)
    at, reasons = rows.column_names.index("reason"), ["nobody"] * len(rows)
    pq.write_table(rows.set_column(at, rows.schema.field(at), [reasons]), path)


def twice(path: Path) -> None:
    rows = pq.read_table(path)
    with pq.ParquetWriter(path, rows.schema) as writer:
        writer.write_table(rows)
        writer.write_table(rows)
