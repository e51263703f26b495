"""A look at what a blocklist finds shows what a takedown would take."""

import io
import json
import shlex
from pathlib import Path

import imagehash
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignset.pipeline.look.__main__ import main as look
from alignset.pipeline.takedown.__main__ import main as takedown
from tests.support.command import succeed
from tests.support.golden import FLAGS
from tests.support.hostile_tars import tar_of
from tests.support.picture_files import encoded, photograph
from tests.support.tar_files import tar_of as put_tar


def shown(out: Path, blocklist: Path, *flags: str, capsys: pytest.CaptureFixture) -> set[str]:
    """The captions that a look shows, by the command that a dry run of a takedown prints."""
    assert takedown([str(out), f"--blocklist={blocklist}", "--dry_run", *flags], "takedown") == 0
    told, _, command = capsys.readouterr().out.partition("to see them: ")
    words = shlex.split(command)
    assert words[0] == "look"
    assert look([*words[1:], f"--output={out.parent / 'sheet.png'}"]) == 0
    rows = capsys.readouterr().out.splitlines()[4:]
    captions = {" ".join(row.split()[-3:]) for row in rows}
    assert f"{len(captions)} pair" in told
    return captions


def test_of_texts_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    texts = [f"a boat {word}" for word in ("one", "two", "three")]
    table = pa.table({"url": [f"http://h.org/{n}" for n in range(3)], "caption": texts})
    pq.write_table(table, tmp_path / "pairs.parquet")
    succeed(tmp_path / "pairs.parquet", tmp_path / "set", "--text_only", "--language=")
    blocklist = tmp_path / "a list.txt"
    blocklist.write_text("url:http://h.org/0\ntext:boat three\n")
    assert shown(tmp_path / "set", blocklist, capsys=capsys) == {texts[0], texts[2]}


def test_of_images_at_another_distance(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pictures = [photograph(n) for n in range(3)]
    files = {}
    for n, picture in enumerate(pictures):
        said = {"url": f"http://h.org/{n}", "caption": f"a boat {n}"}
        files |= {f"{n}.jpg": encoded(picture, "JPEG"), f"{n}.json": json.dumps(said).encode()}
    put_tar(tmp_path / "a.tar", files)
    succeed(tmp_path / "a.tar", tmp_path / "set", *FLAGS, "--language=", "--min_words=1")
    phash = imagehash.phash(Image.open(io.BytesIO(files["1.jpg"])))
    phash.hash[:2] = ~phash.hash[:2]  # 16 bits
    blocklist = tmp_path / "l.txt"
    blocklist.write_text(f"phash:{phash}\n")
    flags = ("--min_blocked_phash_distance=17",)
    assert "a boat 1" in shown(tmp_path / "set", blocklist, *flags, capsys=capsys)
    assert look([str(tmp_path / "set"), f"--blocklist={blocklist}"]) == 1
    with pytest.raises(SystemExit):
        look([str(tmp_path / "set"), *flags])


def test_of_shards_of_another_tool(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One is listed by its KEY.txt alone, one by its row."""
    out, files = tmp_path / "set", {}
    for n in range(3):
        said = {"url": f"http://h.org/{n}", "caption": f"a boat {n}"}
        files |= {
            f"{n}.jpg": encoded(photograph(n), "JPEG"),
            f"{n}.json": json.dumps(said).encode(),
        }
        files[f"{n}.txt"] = b"jane doe" if n == 1 else b"a boat"
    out.mkdir()
    (out / "0.tar").write_bytes(tar_of(files))
    rows = {"key": ["2"], "url": ["http://other.org/2"], "caption": ["a boat"]}
    pq.write_table(pa.table(rows), out / "0.parquet")
    blocklist = tmp_path / "l.txt"
    blocklist.write_text("text:jane doe\nhost:other.org\n")
    assert shown(out, blocklist, capsys=capsys) == {"a boat 1", "a boat 2"}
