"""Indexes made, added to, resumed, refused and taken from."""

import hashlib
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search import neighbours
from alignset.train.search.blocklist import parse_blocklist, store_blocklist
from alignset.train.search.find_results import find_results, query_vector
from alignset.train.search.index_files import part_path, read_index, write_index
from alignset.train.search.make_index import Removed, add_sources, remove_rows, write_table
from alignset.train.search.opened_index import OpenedIndex
from alignset.train.search.pictures import find_sources
from alignset.train.search.query import SearchQuery, Term
from tests.support.colour_search import ColourModel, index_of, making, picture_folder
from tests.support.train_shards import COLOURS, colour_files, colour_shards, write_tar

pytestmark = pytest.mark.numeric


def captions_for(folder: Path, text: str, count: int = 5) -> list[str]:
    index = OpenedIndex(folder)
    query = SearchQuery((Term("text", text),))
    vector = query_vector(query, index, ColourModel().embed_texts)
    return [result["caption"] for result in find_results(vector, query, index, count)]


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def removed(folder: Path, *lines: str, dry_run: bool = False) -> Removed:
    return remove_rows(folder, parse_blocklist(lines, "list"), dry_run=dry_run, say=print)


def test_an_index_of_shards_is_made_and_added_to(tmp_path: Path) -> None:
    shards, folder = colour_shards(tmp_path / "shards"), tmp_path / "index"
    rows = [
        {"key": f"{i:016x}", "url": f"http://img{i}.example.org/{i}.png", "unsafe_score": i / 24}
        for i in range(12)
    ]
    pq.write_table(pa.Table.from_pylist(rows), shards / "00000.parquet")
    added = index_of(shards, folder)
    assert (added.rows, added.document.kind, added.document.recall) == (24, "exact", 1.0)
    index = OpenedIndex(folder)
    row = index.rows.slice(3, 1).to_pylist()[0]
    assert (row["url"], row["host"]) == ("http://img3.example.org/3.png", "img3.example.org")
    assert row["unsafe_score"] == pytest.approx(3 / 24)
    assert index.rows["unsafe_score"][20].as_py() is None  # its shard has no sidecar
    assert captions_for(folder, "something red", 1) == ["a red picture"]
    image = Image.open(io.BytesIO(index.thumbnail(20)))
    assert (image.format, max(image.size) <= 64) == ("WEBP", True)
    # What is there already is not read again.
    model = ColourModel()
    model.embed_images = None  # type: ignore[assignment, method-assign]
    assert add_sources(folder, find_sources(str(shards)), model, making(), print).rows == 0
    write_tar(shards / "00002.tar", colour_files(24, 5) | colour_files(3, 1))
    more = making()
    document = add_sources(folder, find_sources(str(shards)), ColourModel(), more, print).document
    assert document.rows == 29  # a key that is there is no new row
    assert more.left_out["repeated_key"] == 1
    with pytest.raises(SettingsError, match=r"made by the model colours \(0{12}\) and not by oth"):
        index_of(shards, folder, ColourModel("other", seed=7))


def test_an_index_finds_its_model_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    data = picture_folder(tmp_path / "data", each=1)
    for name, kept in (("run", str(tmp_path / "run")), ("hub/name", "hub/name")):
        made = index_of(data, tmp_path / f"index-{len(kept)}", ColourModel(name))
        assert made.document.model == kept


def test_a_killed_command_goes_on_where_it_was(tmp_path: Path) -> None:
    shards, folder = colour_shards(tmp_path / "shards"), tmp_path / "index"
    whole = index_of(shards, tmp_path / "whole").document
    other = index_of(shards, folder, ColourModel(seed=1)).document
    (folder / "index.json").unlink()  # what a kill left of another model is of no use

    class Dies(ColourModel):
        def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
            self.calls.append(len(images))
            if len(self.calls) == 4:
                raise KeyboardInterrupt
            with pytest.raises(TrainingError, match="another command is changing the index"):
                index_of(shards, folder)
            return super().embed_images(images)

    with pytest.raises(KeyboardInterrupt):
        index_of(shards, folder, Dies())
    assert not (folder / "index.json").exists()
    rest = Dies()
    rest.calls = [0, 0, 0, 0]
    document = index_of(shards, folder, rest).document
    assert rest.calls[4:] == [8, 4]  # the first of two shards was there
    assert document == whole
    assert set(document.parts).isdisjoint(other.parts)
    names = files_of(tmp_path / "whole")
    assert names == files_of(folder)
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (folder / name).read_bytes(), name


def test_what_cannot_be_taken_in_is_counted(tmp_path: Path) -> None:
    files = colour_files(0, 2) | {"a.jpg": b"no picture", "a.txt": b"", "b.txt": b"a text alone"}
    write_tar(tmp_path / "shards" / "00000.tar", files)
    made = making()
    sources = find_sources(str(tmp_path / "shards"))
    assert add_sources(tmp_path / "index", sources, ColourModel(), made, print).rows == 2
    counts = {reason: count for reason, count in made.left_out.items() if count}
    assert counts == {"undecodable": 1, "no_image": 1}
    write_tar(tmp_path / "bad" / "00000.tar", {"a.jpg": b"no picture", "a.txt": b""})
    with pytest.raises(SettingsError, match=r"nothing could be taken into .*1 undecodable"):
        index_of(tmp_path / "bad", tmp_path / "none")


def test_a_damaged_index_says_so(tmp_path: Path) -> None:
    index_of(colour_shards(tmp_path / "shards", shards=1), tmp_path / "index")
    (name,) = read_index(tmp_path / "index").parts
    path = part_path(tmp_path / "index", name)
    whole = path.read_bytes()
    rows = pa.ipc.open_file(whole).read_all()  # in memory, since the file is cut
    for damage, text in (
        (lambda: path.write_bytes(whole[:-50]), "cannot be read"),
        (lambda: path.write_bytes(b""), "cannot be read"),
        (path.unlink, "cannot be read"),
        (lambda: write_whole(path, lambda file: write_table(rows[1:], file)), "hold 11 rows"),
        (
            lambda: write_whole(path, lambda file: write_table(rows.drop(["md5"]), file)),
            "other col",
        ),
    ):
        damage()
        with pytest.raises(TrainingError, match=text):
            OpenedIndex(tmp_path / "index")
    with pytest.raises(SettingsError, match="holds no index: make one"):
        OpenedIndex(tmp_path / "shards")
    document = json.loads((tmp_path / "index" / "index.json").read_text())
    for changed, text in ((document | {"format": 3}, "another version"), ({}, "cannot be read")):
        (tmp_path / "index" / "index.json").write_text(json.dumps(changed))
        with pytest.raises(SettingsError, match=text):
            OpenedIndex(tmp_path / "index")


def test_removed_rows_are_gone_from_every_file_for_good(tmp_path: Path) -> None:
    data, folder = picture_folder(tmp_path / "data", each=2), tmp_path / "index"
    index_of(data, folder)
    before = files_of(folder)
    assert removed(folder, "key:red/0.jpg", dry_run=True).keys == ["red/0.jpg"]
    assert files_of(folder) == before
    assert removed(folder, "key:red/0.jpg").keys == ["red/0.jpg"]
    index = OpenedIndex(folder)
    assert (len(index.rows), index.row_of("red/0.jpg")) == (15, None)
    stored = b"".join((folder / name).read_bytes() for name in files_of(folder))
    assert b"red picture, number 0" not in stored
    assert captions_for(folder, "red", 1) == ["a red picture, number 1"]
    # Neither the same images nor the same file in another place comes in again.
    assert index_of(data, folder).rows == 0
    (data / "copy").mkdir()
    shutil.copy(data / "red" / "0.jpg", data / "copy" / "other.jpg")
    assert index_of(data, folder).rows == 1
    sha256 = hashlib.sha256((data / "copy" / "other.jpg").read_bytes()).hexdigest()
    assert removed(folder, f"sha256:{sha256}").keys == ["copy/other.jpg"]
    shutil.copy(data / "red" / "0.jpg", data / "copy" / "third.jpg")
    again = making()
    assert add_sources(folder, find_sources(str(data)), ColourModel(), again, print).rows == 0
    assert again.left_out["blocked"] == 3


def test_a_killed_command_leaves_no_row_that_is_removed_or_there(tmp_path: Path) -> None:
    shards, folder = colour_shards(tmp_path / "shards"), tmp_path / "index"

    def keys_after() -> list[str]:
        index_of(shards, folder)
        keys: list[str] = OpenedIndex(folder).rows["key"].to_pylist()
        return keys

    keys = keys_after()
    # A `remove` that was killed before it wrote a part; then a source comes.
    store_blocklist(folder, parse_blocklist([f"key:{keys[0]}"], "list"))
    write_tar(shards / "00002.tar", colour_files(24, 5))
    assert keys[0] not in keys_after()
    # A part that a killed `index` made before its keys came in by another source.
    write_tar(shards / "00004.tar", colour_files(40, 4))
    document = read_index(folder)
    keys_after()
    left_over = part_path(folder, read_index(folder).parts[-1])
    rows = left_over.read_bytes()
    write_index(folder, document)
    left_over.write_bytes(rows)
    write_tar(shards / "00003.tar", colour_files(38, 6))
    found = keys_after()
    assert len(found) == len(set(found)) == 24 - 1 + 5 + 6


def test_a_large_index_has_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXACT_ROWS", 100)
    data, folder = picture_folder(tmp_path / "data", each=40), tmp_path / "index"
    document = index_of(data, folder).document
    assert (document.kind, document.factory) == ("cells", "IVF8,SQfp16")
    assert 0.5 < document.recall <= 1
    assert all("green" in caption for caption in captions_for(folder, "green", 5))
    again = index_of(data, folder).document  # nothing came in
    assert again == document
    assert len(removed(folder, *(f"key:green/{n}.jpg" for n in range(39))).keys) == 39
    assert captions_for(folder, "green", 1) == ["a green picture, number 39"]
    assert index_of(colour_shards(tmp_path / "shards"), folder).document.rows == 320 - 39 + 24
    assert captions_for(folder, "yellow picture", 100).count("a yellow picture") >= 1
    assert len([*folder.glob("vectors-*")]) == 1
    removed(folder, *(f"key:{colour}/{n}.jpg" for colour in COLOURS for n in range(40)))
    document = read_index(folder)
    assert (document.kind, document.recall) == ("exact", 1.0)
