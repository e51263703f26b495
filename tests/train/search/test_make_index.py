"""Indexes made, added to, resumed, refused and taken from."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search import build_parts, neighbours
from alignset.train.search.blocklist import parse_blocklist
from alignset.train.search.find_results import find_results, query_vector
from alignset.train.search.index_files import part_path, read_index, read_part, write_part
from alignset.train.search.make_index import add_sources, remove_rows
from alignset.train.search.opened_index import OpenedIndex
from alignset.train.search.pictures import find_sources
from alignset.train.search.query import SearchQuery, Term
from tests.support.colour_search import ColourModel, index_of, making, picture_folder
from tests.support.train_shards import colour_files, colour_shards, write_tar

pytestmark = pytest.mark.numeric


def captions_for(folder: Path, text: str, count: int = 5) -> list[str]:
    index = OpenedIndex(folder)
    query = SearchQuery((Term("text", text),))
    vector = query_vector(query, index, ColourModel().embed_texts)
    return [result["caption"] for result in find_results(vector, query, index, count)]


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_name_that_is_no_utf8_is_told(tmp_path: Path) -> None:
    picture = picture_folder(tmp_path / "data", each=1) / "red" / "0.jpg"
    shutil.copy(picture, os.fsdecode(bytes(tmp_path / "data") + b"/caf\xe9.jpg"))
    with pytest.raises(
        SettingsError, match=r"has 1 picture .* no UTF-8, the first b'caf\\xe9.jpg'"
    ):
        find_sources(str(tmp_path / "data"))


def test_an_index_of_shards_finds_what_is_asked_for(tmp_path: Path) -> None:
    shards = colour_shards(tmp_path / "shards")
    rows = [
        {"key": f"{i:016x}", "url": f"http://img{i}.example.org/{i}.png", "unsafe_score": i / 24}
        for i in range(12)
    ]
    pq.write_table(pa.Table.from_pylist(rows), shards / "00000.parquet")
    added = index_of(shards, tmp_path / "index")
    assert (added.rows, added.document.kind, added.document.recall) == (24, "exact", 1.0)
    index = OpenedIndex(tmp_path / "index")
    of = index.rows.slice(3, 1).to_pylist()[0]
    assert of["url"] == "http://img3.example.org/3.png"
    assert of["host"] == "img3.example.org"
    assert of["unsafe_score"] == pytest.approx(3 / 24)
    assert index.rows["unsafe_score"][20].as_py() is None  # its shard has no sidecar
    assert captions_for(tmp_path / "index", "something red", 1) == ["a red picture"]
    image = Image.open(io.BytesIO(index.thumbnail(20)))
    assert image.format == "WEBP"
    assert max(image.size) <= 64


def test_what_is_there_already_is_not_read_again(tmp_path: Path) -> None:
    shards = colour_shards(tmp_path / "shards")
    index_of(shards, tmp_path / "index")
    told: list[int] = []
    model = ColourModel()
    model.embed_images = None  # type: ignore[assignment, method-assign]
    again = add_sources(
        tmp_path / "index", find_sources(str(shards)), model, making(tell=told.append), print
    )
    assert again.rows == 0
    assert sum(told) == 24
    write_tar(shards / "00002.tar", colour_files(24, 5) | colour_files(3, 1))
    more = index_of(shards, tmp_path / "index")
    assert more.rows == 5  # a key that is there is no new row
    assert more.left_out["repeated_key"] == 1
    assert more.document.rows == 29


def test_a_killed_command_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_parts, "PART_SAMPLES", 8)
    shards = colour_shards(tmp_path / "shards", shards=1, each=20)
    whole = index_of(shards, tmp_path / "whole").document

    class Dies(ColourModel):
        def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
            self.calls.append(len(images))
            if len(self.calls) == 3:
                raise KeyboardInterrupt
            return super().embed_images(images)

    with pytest.raises(KeyboardInterrupt):
        index_of(shards, tmp_path / "index", Dies())
    assert not (tmp_path / "index" / "index.json").exists()
    rest = Dies()
    rest.calls = [0, 0, 0]
    document = index_of(shards, tmp_path / "index", rest).document
    assert rest.calls[3:] == [4]  # of 20, two parts of 8 were there
    assert document == whole
    for name in files_of(tmp_path / "whole"):
        same = (tmp_path / "whole" / name).read_bytes() == (tmp_path / "index" / name).read_bytes()
        assert same, name


def test_what_a_kill_left_of_another_model_is_not_taken_up(tmp_path: Path) -> None:
    shards = colour_shards(tmp_path / "shards")
    index_of(shards, tmp_path / "index", ColourModel(seed=1))
    (tmp_path / "index" / "index.json").unlink()
    document = index_of(shards, tmp_path / "index").document
    vectors = OpenedIndex(tmp_path / "index").vectors.take(np.arange(document.rows))
    other = index_of(shards, tmp_path / "other").document
    assert other.parts == document.parts
    assert np.array_equal(vectors, OpenedIndex(tmp_path / "other").vectors.take(np.arange(24)))


def test_another_models_index_is_refused(tmp_path: Path) -> None:
    shards = colour_shards(tmp_path / "shards")
    index_of(shards, tmp_path / "index")
    with pytest.raises(SettingsError, match=r"made by the model colours \(0{12}\) and not by oth"):
        index_of(shards, tmp_path / "index", ColourModel("other", seed=7))


def test_a_second_command_waits_for_no_index(tmp_path: Path) -> None:
    shards = colour_shards(tmp_path / "shards")

    class Slow(ColourModel):
        def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
            with pytest.raises(TrainingError, match="another command is changing the index"):
                index_of(shards, tmp_path / "index")
            return super().embed_images(images)

    assert index_of(shards, tmp_path / "index", Slow()).rows == 24


def test_what_cannot_be_taken_in_is_counted(tmp_path: Path) -> None:
    files = colour_files(0, 2) | {"a.jpg": b"no picture", "a.txt": b"", "b.txt": b"a text alone"}
    write_tar(tmp_path / "shards" / "00000.tar", files)
    added = index_of(tmp_path / "shards", tmp_path / "index")
    counts = {reason: count for reason, count in added.left_out.items() if count}
    assert counts == {"undecodable": 1, "no_image": 1}
    assert added.rows == 2
    write_tar(tmp_path / "bad" / "00000.tar", {"a.jpg": b"no picture", "a.txt": b""})
    with pytest.raises(SettingsError, match=r"nothing could be taken into .*1 undecodable"):
        index_of(tmp_path / "bad", tmp_path / "none")


def test_a_damaged_index_says_so(tmp_path: Path) -> None:
    index_of(colour_shards(tmp_path / "shards", shards=1), tmp_path / "index")
    (name,) = read_index(tmp_path / "index").parts
    rows, progress = read_part(tmp_path / "index", name)
    whole = part_path(tmp_path / "index", name).read_bytes()
    for number, (damage, text) in enumerate(
        (
            (lambda path: path.write_bytes(whole[:-50]), "cannot be read"),
            (lambda path: path.write_bytes(b""), "cannot be read"),
            (lambda path: path.unlink(), "cannot be read"),
            (lambda path: write_part(path.parents[1], name, rows[1:], progress), "hold 11 rows"),
            (
                lambda path: write_part(path.parents[1], name, rows.drop(["md5"]), progress),
                "other columns",
            ),
        )
    ):
        broken = tmp_path / f"broken-{number}"
        shutil.copytree(tmp_path / "index", broken)
        damage(part_path(broken, name))
        with pytest.raises(TrainingError, match=text):
            OpenedIndex(broken)
    with pytest.raises(SettingsError, match="holds no index: make one"):
        OpenedIndex(tmp_path / "shards")
    document = json.loads((tmp_path / "index" / "index.json").read_text())
    for changed, text in ((document | {"format": 2}, "another version"), ({}, "cannot be read")):
        (tmp_path / "index" / "index.json").write_text(json.dumps(changed))
        with pytest.raises(SettingsError, match=text):
            OpenedIndex(tmp_path / "index")


def test_removed_rows_are_gone_from_every_file_for_good(tmp_path: Path) -> None:
    data = picture_folder(tmp_path / "data", each=2)
    index_of(data, tmp_path / "index")
    before = files_of(tmp_path / "index")
    blocklist = parse_blocklist(["key:red/0.jpg"], "list")
    assert remove_rows(tmp_path / "index", blocklist, dry_run=True, say=print).keys == ["red/0.jpg"]
    assert files_of(tmp_path / "index") == before
    assert remove_rows(tmp_path / "index", blocklist, dry_run=False, say=print).keys == [
        "red/0.jpg"
    ]
    assert files_of(tmp_path / "index").isdisjoint(
        name for name in before if name.startswith("parts/")
    )
    index = OpenedIndex(tmp_path / "index")
    assert len(index.rows) == 15
    assert index.row_of("red/0.jpg") is None
    assert b"red picture, number 0" not in b"".join(
        path.read_bytes() for path in (tmp_path / "index" / "parts").iterdir()
    )
    assert captions_for(tmp_path / "index", "red", 1) == ["a red picture, number 1"]
    # Neither the same pictures nor the same file in another place comes in again.
    assert index_of(data, tmp_path / "index").rows == 0
    (data / "copy").mkdir()
    shutil.copy(data / "red" / "0.jpg", data / "copy" / "other.jpg")
    added = index_of(data, tmp_path / "index")
    assert added.rows == 1
    sha256 = hashlib.sha256((data / "copy" / "other.jpg").read_bytes()).hexdigest()
    by_hash = parse_blocklist([f"sha256:{sha256}"], "list")
    assert remove_rows(tmp_path / "index", by_hash, dry_run=False, say=print).keys == [
        "copy/other.jpg"
    ]
    shutil.copy(data / "red" / "0.jpg", data / "copy" / "third.jpg")
    again = index_of(data, tmp_path / "index")
    assert (again.rows, again.left_out["blocked"]) == (0, 3)


def test_a_large_index_has_cells_and_finds_as_the_exact_search_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "EXACT_ROWS", 100)
    data = picture_folder(tmp_path / "data", each=40)
    document = index_of(data, tmp_path / "index").document
    assert (document.kind, document.factory, document.cells) == (
        "cells",
        "IVF8,SQ8",
        "cells-1.faiss",
    )
    assert 0.5 < document.recall <= 1
    assert all("green" in caption for caption in captions_for(tmp_path / "index", "green", 5))
    assert index_of(data, tmp_path / "index").document == document  # nothing came in
    blocklist = parse_blocklist([f"key:green/{number}.jpg" for number in range(39)], "list")
    assert len(remove_rows(tmp_path / "index", blocklist, dry_run=False, say=print).keys) == 39
    assert captions_for(tmp_path / "index", "green", 1) == ["a green picture, number 39"]
    more = index_of(colour_shards(tmp_path / "shards"), tmp_path / "index").document
    assert (more.rows, more.cells) == (320 - 39 + 24, "cells-3.faiss")
    assert captions_for(tmp_path / "index", "yellow picture", 100).count("a yellow picture") >= 1
    assert len([*(tmp_path / "index").glob("cells-*")]) == 1
