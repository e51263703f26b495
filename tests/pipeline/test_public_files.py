"""What is published of a dataset: a list, and copies of just that."""

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline import public_files
from alignset.pipeline.commands import publish as main
from alignset.pipeline.commands import takedown
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import TAKEN_DOWN_KEYS
from alignset.pipeline.public_files import publish
from tests.support.command import succeed
from tests.support.golden_run import Golden

PUBLISHED = {"README.md", "croissant.json", "funnel.json", "funnel.svg"}
PUBLISHED |= {"manifest.json", "vocabulary.u64"}


@pytest.fixture
def out(golden: Golden, tmp_path: Path) -> Path:
    """A copy of the golden set, with files that it did not write."""
    shutil.copytree(golden.output, tmp_path / "out")
    for name in (
        "notes.txt",
        "datasheet.md",
        "shards/99999.tar",
        "shards/00000.tar.bak",
        "pairs/x.parquet",
    ):
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("mine")
    return tmp_path / "out"


def files_in(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def listed(out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    assert main([str(out), "--dry_run"]) == 0
    lines = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    return {path: int(size) for path, size in lines}


def test_the_list_is_what_is_copied(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = json.loads((out / "manifest.json").read_text())["shards"]
    names = {
        f"shards/{name}{end}"
        for name, shard in shards.items()
        for end in ((".tar", ".parquet", "_stats.json") if shard["pairs"] else ("_stats.json",))
    }
    (out / "a\x1b[31m.txt").write_text("mine")
    before = files_in(out)
    there = listed(out, capsys)
    assert there.keys() == names | PUBLISHED
    assert [*there][-1] == "manifest.json"
    assert main([str(out), f"--output={tmp_path}/public/"]) == 0
    said = capsys.readouterr().err
    left = r"_generated, a\x1b[31m.txt, datasheet.md, evidence, images, notes.txt, pairs, rejected"
    assert f"them: {left}" in said
    published = files_in(tmp_path / "public")
    assert {name: len(body) for name, body in published.items()} == there
    assert all(published[name] == before[name] for name in names)
    assert files_in(out) == before


def test_no_document_has_a_folder_of_this_machine(out: Path, tmp_path: Path) -> None:
    assert str(tmp_path.parent).encode() in (out / "manifest.json").read_bytes()
    publish(str(out), str(tmp_path / "public"))
    published = files_in(tmp_path / "public")
    assert [name for name, body in published.items() if b"/tmp" in body] == []
    assert json.loads(published["manifest.json"])["input"][0]["path"] == "pairs.parquet"
    assert b'"rejected' not in published["croissant.json"]
    text = " ".join(published["README.md"].decode().split())
    assert text.count("rejected/") == text.count("in the folder of the run")
    # It is a dataset still.
    assert takedown([str(tmp_path / "public"), f"--blocklist={_list(tmp_path)}", "--dry_run"]) == 0


def test_no_flag_has_a_folder_of_this_machine(out: Path, tmp_path: Path) -> None:
    said = json.loads((out / "manifest.json").read_text())
    said["job"]["score_model"] = "/home/jane/model"
    said["job"]["more"] = "a=/home/jane/a.txt,s3://b/c=/d,b=/home/jane/b/,a, /b or c"
    for path in (out / "manifest.json", out / "history/00/manifest.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(said))
    publish(str(out), str(tmp_path / "public"))
    for path in ("manifest.json", "history/00/manifest.json"):
        job = json.loads((tmp_path / "public" / path).read_text())["job"]
        assert job["score_model"] == "model"
        assert job["more"] == "a=a.txt,s3://b/c=/d,b=b,a, /b or c"
    # One that was published with folders is published again.
    shutil.copy(out / "manifest.json", tmp_path / "public")
    publish(str(out), str(tmp_path / "public"))


def _list(folder: Path) -> Path:
    (folder / "list.txt").write_text("domain:nowhere.example\n")
    return folder / "list.txt"


def test_a_killed_publication_is_not_whole_and_resumes(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public, copies = tmp_path / "public", []

    def copy(source: str, target: str, file: public_files.PublicFile) -> None:
        if len(copies) == 4:
            (public / "shards" / f".00001.tar.{'a' * 32}").write_text("half of it")
            raise KeyboardInterrupt
        copies.append(target)
        real(source, target, file)

    real = public_files.copy_file_to
    monkeypatch.setattr(public_files, "copy_file_to", copy)
    with pytest.raises(KeyboardInterrupt):
        publish(str(out), str(public))
    monkeypatch.undo()
    assert not (public / "manifest.json").exists()
    first = (public / "shards" / "00000.tar").stat().st_mtime_ns
    publish(str(out), str(public))
    assert (public / "shards" / "00000.tar").stat().st_mtime_ns == first
    publish(str(out), str(tmp_path / "other"))
    assert files_in(public) == files_in(tmp_path / "other")


def test_after_a_takedown_it_has_what_there_is_now(tmp_path: Path) -> None:
    out, public = tmp_path / "out", tmp_path / "public"
    texts = {
        "url": ["http://a.example/a.jpg", "http://b.example/b.jpg"],
        "caption": ["a cat", "a dog"],
    }
    pq.write_table(pa.table(texts), tmp_path / "pairs.parquet")
    succeed(tmp_path / "pairs.parquet", out, "--text_only", "--language=", "--min_words=2")
    publish(str(out), str(public))
    assert (
        b"a.example" in str(pq.read_table(public / "pairs" / "00000.parquet").to_pylist()).encode()
    )
    (public / "pairs" / "00001.parquet").write_bytes(b"of a split that is gone")
    (public / ".gitattributes").write_text("of the repository")
    (tmp_path / "list.txt").write_text("url:http://a.example/a.jpg\n")
    assert takedown([str(out), f"--blocklist={tmp_path}/list.txt", "--forget_blocked"]) == 0
    (tmp_path / "link").symlink_to(public)
    publish(str(out), str(tmp_path / "link"))
    pages = PUBLISHED | {"pairs/00000.parquet", TAKEN_DOWN_KEYS, ".gitattributes"}
    assert files_in(public).keys() == pages
    rows = pq.read_table(public / "pairs" / "00000.parquet").to_pylist()
    assert [row["url"] for row in rows] == ["http://b.example/b.jpg"]


def test_what_is_not_as_it_should_be_is_one_line(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    (mine / "shards").mkdir(parents=True)
    (mine / "README.md").write_text("about me")
    (tmp_path / "file").write_text("")
    for words, says in (
        ([str(out)], "pass either --dry_run, which lists, or --output=FOLDER"),
        ([str(out), "--dry_run", "--output=a"], "pass either --dry_run"),
        ([str(mine), "--dry_run"], "holds no finished dataset"),
        ([str(out), f"--output={mine}"], "README.md; name a new folder"),
        ([str(out), f"--output={out}/public"], "hold one another"),
        ([str(out), f"--output={tmp_path}/file"], "is not a local folder"),
        ([str(out), "--output=s3://a/b"], "is not a local folder"),
    ):
        assert main(words) == 2, words
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1
    assert files_in(mine) == {"README.md": b"about me"}
    public = tmp_path / "public"
    publish(str(out), str(public))
    (public / "shards" / "mine.tar").write_text("kept")
    with pytest.raises(UsageError, match=r"mine\.tar was not published by this command"):
        publish(str(out), str(public))
    assert (public / "shards" / "mine.tar").read_text() == "kept"


@pytest.mark.parametrize("name", ["shards/00000.tar", "README.md", "shards"])
def test_a_link_is_refused(out: Path, tmp_path: Path, name: str) -> None:
    os.rename(out / name, tmp_path / "elsewhere")
    (out / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a link, which may lead anywhere"):
        publish(str(out), str(tmp_path / "public"))


def test_a_tar_that_the_manifest_does_not_name_is_refused(out: Path, tmp_path: Path) -> None:
    tar, public = out / "shards" / "00000.tar", tmp_path / "public"
    tar.write_bytes(tar.read_bytes() + b"more")
    with pytest.raises(RuntimeError, match=r"00000\.tar is not the file that the manifest names"):
        publish(str(out), str(public))
    assert not (public / "shards" / "00000.tar").exists()
    assert not (public / "manifest.json").exists()
    tar.unlink()
    with pytest.raises(UsageError, match=r"00000\.tar is missing"):
        publish(str(out), str(public))
