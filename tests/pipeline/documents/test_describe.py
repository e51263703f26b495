"""The description of a dataset, and what people wrote into its card."""

import json
import logging
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from alignset.pipeline.commands import deduplicate, takedown
from alignset.pipeline.documents.describe import days_of, describe, manifest_of_run
from alignset.pipeline.documents.hand_edits import drop_page, merge, write_page
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.documents import Days, RunDescription
from alignset.pipeline.runs.run_folder import RunFolder
from alignset.pipeline.runs.work_folder import TextSummary, WorkFolder
from alignset.transforms.storage.documents import Counts, read_document
from alignset.transforms.storage.files import exists, write_atomically
from tests.support.command import digests
from tests.support.golden_run import Golden
from tests.support.memory_files import read

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


BASE = b"name: unknown\nlicense: unknown\n\n10 pairs\n\n- one\n- two\n"


@pytest.mark.parametrize(
    ("edited", "made", "merged", "clashes"),
    [
        # Neighbours, one changed by a person and one by the dataset.
        (
            b"name: mine\nlicense: unknown\n\n10 pairs\n\n- one\n- two\n",
            b"name: unknown\nlicense: mit\n\n9 pairs\n\n- one\n- two\n- three\n",
            b"name: mine\nlicense: mit\n\n9 pairs\n\n- one\n- two\n- three\n",
            0,
        ),
        # Paragraphs put in and taken out.
        (
            b"A head.\n\nname: unknown\nlicense: unknown\n\n10 pairs, I counted.\n\n- one\n",
            b"name: unknown\nlicense: unknown\n\n9 pairs\n\n- one\n- two\n",
            b"A head.\n\nname: unknown\nlicense: unknown\n\n9 pairs\n\n- one\n",
            1,
        ),
        # A paragraph between lines that the dataset changes.
        (
            BASE.replace(b"10 pairs\n", b"10 pairs\n\n## About us\n\nFew.\n"),
            BASE.replace(b"10 pairs\n\n- one\n", b"9 pairs\n\n- 1\n- 1b\n"),
            BASE.replace(b"10 pairs\n\n- one\n", b"9 pairs\n\n## About us\n\nFew.\n\n- 1\n- 1b\n"),
            0,
        ),
        (
            BASE.replace(b"- one\n", b"- one\n- mine\n"),
            BASE.replace(b"- one\n- two\n", b"- 1\n- 2\n## Taken down\n"),
            BASE.replace(b"- one\n- two\n", b"- 1\n- 2\n## Taken down\n- mine\n"),
            0,
        ),
        (
            BASE.replace(b"- one\n", b""),
            BASE.replace(b"- one", b"- 1"),
            BASE.replace(b"one", b"1"),
            1,
        ),
        (b"all\nanew\n", BASE.replace(b"10", b"9"), BASE.replace(b"10", b"9"), 2),
    ],
)
def test_both_changes_are_taken(edited: bytes, made: bytes, merged: bytes, clashes: int) -> None:
    lines, count = merge(*(text.splitlines(True) for text in (BASE, edited, made)))
    assert (b"".join(lines), count) == (merged, clashes)


def test_a_page_is_written_over_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    page, out = tmp_path / "README.md", str(tmp_path)
    write_page(out, "README.md", BASE)
    assert page.read_bytes() == BASE
    page.write_bytes(BASE.replace(b"name: unknown", b"name: Birds").replace(b"\n", b"\r\n"))
    for count in (b"9", b"8"):
        write_page(out, "README.md", BASE.replace(b"10", count))
        assert page.read_bytes() == BASE.replace(b"10", count).replace(
            b"name: unknown", b"name: Birds"
        )
    assert not caplog.records
    edited = page.read_bytes().replace(b"8 pairs", b"some 8 pairs")
    page.write_bytes(edited)
    write_page(out, "README.md", BASE.replace(b"10", b"6"))
    assert page.read_bytes() == BASE.replace(b"10", b"6").replace(b"name: unknown", b"name: Birds")
    assert (tmp_path / "README.md.before").read_bytes() == edited
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith("/README.md.before")


def test_json_stays_json(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    page, out = tmp_path / "croissant.json", str(tmp_path)
    write_page(out, page.name, _json(name="a", pairs=10))
    page.write_bytes(_json(name="Birds", pairs=10))
    write_page(out, page.name, _json(name="a", pairs=9))
    assert page.read_bytes() == _json(name="Birds", pairs=9)
    assert not caplog.records
    for edited in (  # by itself, and with what is generated
        page.read_bytes().replace(b"Birds", b'Birds "and" bees'),
        _json(name="Birds"),
        b"[" * 100_000,
    ):
        page.write_bytes(edited)
        write_page(out, page.name, _json(name="a", pairs=9, more=1))
        assert page.read_bytes() == _json(name="a", pairs=9, more=1)
        assert (tmp_path / "croissant.json.before").read_bytes() == edited
        write_page(out, page.name, _json(name="a", pairs=9))
    assert "croissant.json: it is generated anew" in caplog.text


def _json(**values: object) -> bytes:
    return json.dumps(values, indent=1).encode() + b"\n"


TEXTS = st.lists(st.sampled_from([b"", b"a", b"b", b"c", b"d"]), max_size=9)


@given(TEXTS, TEXTS, TEXTS)
def test_a_change_alone_is_taken_whole(base: list[bytes], hand: list[bytes], new: list[bytes]):
    assert merge(base, base, new) == (new, 0)
    assert merge(base, hand, base) == (hand, 0)
    assert merge(base, new, new) == (new, 0)
    lines, _ = merge(base, hand, new)
    assert set(lines) <= {*base, *hand, *new}


def test_a_page_of_unknown_origin_is_set_aside_without_its_pairs(tmp_path: Path) -> None:
    """A pair may have been taken down; nobody wrote its line by hand."""
    page = tmp_path / "README.md"
    page.write_bytes(b'# Mine\n```json\n{"key": "01", "url": "http://a/"}\n```\n{"key"}\n')
    write_page(str(tmp_path), "README.md", BASE)
    assert page.read_bytes() == BASE
    before = (tmp_path / "README.md.before").read_bytes()
    assert before == b'# Mine\n```json\n```\n{"key"}\n'


@pytest.mark.parametrize("is_edited", [True, False])
def test_a_page_that_is_not_written_any_more_goes_and_what_people_wrote_stays(
    folder: str, is_edited: bool, caplog: pytest.LogCaptureFixture
) -> None:
    drop_page(folder, "sheet.md")
    write_page(folder, "sheet.md", BASE)
    hand = BASE + b"mine\n" * is_edited
    write_atomically(f"{folder}/sheet.md", lambda sink: sink.write(hand))
    drop_page(folder, "sheet.md")
    assert not exists(f"{folder}/sheet.md")
    assert not exists(f"{folder}/_generated/sheet.md")
    assert exists(f"{folder}/sheet.md.before") == is_edited == bool(caplog.records)
    if is_edited:
        assert read(f"{folder}/sheet.md.before") == hand
