"""The output folder: whose run it is; a finished one is left alone, another's is refused."""

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.datasets.set_files import read_set
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs import run_folder
from alignset.pipeline.runs.documents import RunDescription
from alignset.pipeline.runs.engine import Engine
from alignset.pipeline.runs.run_folder import RunFolder
from alignset.pipeline.runs.run_lock import LOCK, Lock, take_lock
from alignset.pipeline.runs.work_folder import Change, WorkFolder
from alignset.transforms.storage.documents import write_document
from tests.support.command import digests, run, succeed
from tests.support.golden import TEXTS, evaluation_image

ENOUGH = TEXTS[:6]


class Finished(NamedTuple):
    source: Path
    output: Path


DESCRIPTION = RunDescription({}, {}, {}, {}, [], [], None)


def write(path: Path, texts: tuple[str, ...] = ENOUGH) -> Path:
    urls = [f"http://a.org/{n}" for n in range(len(texts))]
    pq.write_table(pa.table({"url": urls, "caption": texts}), path)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("run_folder")
    source = write(folder / "pairs.parquet")
    succeed(source, folder / "set", "--text_only", "--min_words=4")
    return Finished(source, folder / "set")


def state(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        name: (digest, (folder / name).stat().st_mtime_ns)
        for name, digest in digests(folder).items()
    }


def test_a_finished_run_is_told_and_left_alone(finished: Finished):
    """How pairs are fetched and in what batches does not make another run."""
    before = state(finished.output)
    flags = ("--batch_rows=2", "--direct_num_workers=2")
    ended = run(finished.source, f"{finished.output}/", "--text_only", "--min_words=4", *flags)
    assert ended.status == 0
    assert f"{finished.output} is finished: nothing to do" in ended.err
    assert ended.err.count("\n") == 1
    assert state(finished.output) == before


def test_a_run_knows_its_input_by_another_path(tmp_path: Path, monkeypatch):
    """And does not take another file of that name and size for it."""
    rows = [f"http://a.org/{n},{text}" for n, text in enumerate(ENOUGH)]
    source, other = tmp_path / "pairs.csv", tmp_path / "moved" / "pairs.csv"
    source.write_text("\n".join(["url,caption", *rows]))
    succeed(source, tmp_path / "set", "--text_only")
    other.parent.mkdir()
    shutil.copy(source, other)
    monkeypatch.chdir(tmp_path)
    for same in ("./pairs.csv", "pairs.csv", other):
        assert "is finished" in run(same, tmp_path / "set", "--text_only").err
    other.write_text(source.read_text().replace("a.org/0", "b.org/0"))
    assert "other input" in run(other, tmp_path / "set", "--text_only").err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--text_only",), "min_words 4 there, 3 here"),
        (("--min_words=4",), "text_only True there, False here"),
        (("--min_words=4", "--image_size=7", "--resize_mode=border"), "image_size 256 there"),
        (("--min_words=4", "--eval_images=a={exam}"), "evaluation"),
        (("--min_words=4", "--allow_private_addresses"), "addresses False there, True here"),
        (("--text_only", "--min_words=4", "other input"), "other input"),
    ],
)
def test_another_run_is_refused_and_nothing_is_touched(
    finished: Finished, tmp_path: Path, flags: tuple[str, ...], says: str
):
    (tmp_path / "exam.png").write_bytes(evaluation_image())
    named = [flag.replace("{exam}", f"{tmp_path}/exam.png") for flag in flags]
    source = finished.source
    if says in named:
        named.remove(says)
        source = write(tmp_path / "pairs.parquet", ("an" + ENOUGH[0][1:], *ENOUGH[1:]))
    before = state(finished.output)
    ended = run(source, finished.output, *named)
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "holds another run" in ended.err
    assert says in ended.err
    assert "pass another --output, or delete that folder" in ended.err
    assert state(finished.output) == before


@pytest.mark.parametrize(
    ("name", "body", "output", "says"),
    [
        ("set/thesis.tex", "years of work", "set", "no run of ours; pass another --output"),
        ("set/thesis.tex", "years of work", "set/thesis.tex", "no run of ours; pass another"),
        ("set/manifest.json", "{}", "set", "is not a file of ours"),
        ("set/manifest.json", "[]", "set", "is not a file of ours"),
        ("set/manifest.json", "no JSON", "set", "is not a file of ours"),
        ("set/file", "", "set/file/set", "set/file"),  # which cannot be a folder
    ],
)
def test_a_folder_with_something_else_is_refused(
    finished: Finished, tmp_path: Path, name: str, body: str, output: str, says: str
):
    (tmp_path / "set").mkdir()
    (tmp_path / name).write_text(body)
    ended = run(finished.source, tmp_path / output, "--text_only")
    assert (ended.status in (1, 2), ended.err.count("\n")) == (True, 1), ended.err
    assert says in ended.err
    assert list(digests(tmp_path)) == [name]
    assert (tmp_path / name).read_text() == body


def test_one_run_at_once_and_what_a_killed_attempt_left_is_taken_away(tmp_path: Path):
    folder = RunFolder(str(tmp_path / "out"), DESCRIPTION)
    with pytest.raises(UsageError, match="another run is writing"):
        RunFolder(str(tmp_path / "out"), DESCRIPTION)
    folder.release()
    stale = tmp_path / "out" / "_temporary" / "blocks-x"
    stale.mkdir()
    again = RunFolder(str(tmp_path / "out"), DESCRIPTION)
    assert again.earlier == [folder.start], "its jobs may still run"
    again.release()
    assert not stale.exists()
    with pytest.raises(UsageError, match="another version of alignset began the run"):
        RunFolder(str(tmp_path / "out"), replace(DESCRIPTION, layout="0.4"))
    (tmp_path / "out/_temporary/base.json").write_text("{}")
    with pytest.raises(UsageError, match="of an earlier version of alignset was stopped in"):
        RunFolder(str(tmp_path / "out"), DESCRIPTION)


def test_only_the_same_command_resumes_a_change(finished: Finished, tmp_path: Path):
    by, work = "--blocklist=mine", WorkFolder(str(tmp_path))
    change = Change("takedown", [by], read_set(str(finished.output))[0])
    write_document(work.change, change)
    assert work.find_change("set", "takedown", [by]) == change
    for command, words in (("curate", []), ("takedown", ["--blocklist=x"]), ("deduplicate", [by])):
        with pytest.raises(UsageError, match=f"alignset takedown {by} was stopped on set; run it"):
            work.find_change("set", command, words)


def test_a_job_that_ended_without_its_summary_is_told(tmp_path: Path, monkeypatch):
    elsewhere = contextlib.contextmanager(lambda *_: iter([beam.Pipeline()]))
    monkeypatch.setattr(Engine, "pipeline", elsewhere)
    ended = run(write(tmp_path / "pairs.parquet"), tmp_path / "set", "--text_only")
    assert ended.status == 1
    assert f"the text stage's job ended without its summary in {tmp_path}/set" in ended.err


def test_a_run_that_another_ended_meanwhile_leaves_nothing(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def take_late(work: str, start: str) -> Lock:
        shutil.copytree(finished.output, tmp_path / "set", dirs_exist_ok=True)
        return take_lock(work, start)

    monkeypatch.setattr(run_folder, "take_lock", take_late)
    ended = succeed(finished.source, tmp_path / "set", "--text_only", "--min_words=4")
    assert "is finished: nothing to do" in ended.err
    assert not (tmp_path / "set" / "_temporary").exists()


def test_a_finished_run_that_another_works_on_is_left_alone(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A takedown holds the folder before anything else of it is there."""
    out, gone, unlink = tmp_path / "set", list[str](), Path.unlink
    shutil.copytree(finished.output, out)
    lock = take_lock(f"{out}/_temporary", "a takedown")
    (out / "_temporary" / "text.json").write_text("a takedown's")
    succeed(finished.source, out, "--text_only", "--min_words=4")
    assert (out / "_temporary" / "text.json").read_text() == "a takedown's"
    lock.release()
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "a-file").touch()
    for name in ("attempts", "link"):
        (out / "_temporary" / name).symlink_to(tmp_path / "my")

    def watched(path: Path, **flags: bool) -> None:
        gone.append(path.name)
        unlink(path, **flags)

    monkeypatch.setattr(Path, "unlink", watched)
    succeed(finished.source, out, "--text_only", "--min_words=4")
    assert not (out / "_temporary").exists()
    assert "text.json" in gone
    assert gone[-1] == LOCK, "nobody gets in before all is taken away"
    assert (tmp_path / "my" / "a-file").exists(), "somebody else's, to which links point"
