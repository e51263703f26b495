"""Indexes made, made anew, refused, and opened beside their datasets."""

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search import index_files
from alignset.train.search.index_files import DOCUMENT, ROWS, make_index
from alignset.train.search.pictures import find_sources
from alignset.train.search.query import (
    OpenedIndex,
    SearchQuery,
    Term,
    find_results,
    query_vector,
    sample_results,
)
from tests.support.colour_search import MAKING, ColourModel, index_of, picture_folder
from tests.support.train_shards import colour_files, colour_shards, write_tar

pytestmark = pytest.mark.numeric
SIDECAR = pa.schema({"key": pa.string(), "url": pa.string()})


def captions_for(folder: Path, text: str, count: int = 5) -> list[str]:
    index = OpenedIndex(folder)
    query = SearchQuery((Term("text", text),))
    vector = query_vector(query, index, ColourModel().embed_texts)
    return [result["caption"] for result in find_results(vector, query, index, count)]


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def stored(folder: Path) -> bytes:
    return b"".join((folder / name).read_bytes() for name in files_of(folder))


def write_sidecar(shard: Path, *numbers: int) -> None:
    """A table of these keys beside a shard."""
    rows = [{"key": f"{n:016x}", "url": f"http://a.example/{n}"} for n in numbers]
    pq.write_table(pa.Table.from_pylist(rows, SIDECAR), shard.with_suffix(".parquet"))


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A dataset of two shards of twelve samples each, with the keys 0 to 23."""
    shards = colour_shards(tmp_path / "set" / "shards")
    (tmp_path / "set" / "manifest.json").write_text("{}")
    for number in (0, 1):
        write_sidecar(shards / f"{number:05}.tar", *range(12 * number, 12 * number + 12))
    return tmp_path / "set"


def take_down(dataset: Path, key: int) -> None:
    """Takes a pair out of the first shard, as a takedown writes it: the manifest comes last."""
    others = [n for n in range(12) if n != key]
    write_sidecar(dataset / "shards" / "00000.tar", *others)
    files = {name: data for n in others for name, data in colour_files(n, 1).items()}
    write_tar(dataset / "shards" / "00000.tar", files)
    (dataset / "manifest.json").write_text(f"without {key}")


def keys_shown(index: OpenedIndex) -> list[str]:
    return [result["key"] for result in sample_results(index, 100)]


def shown(index: OpenedIndex) -> list[int]:
    return [int(key, 16) for key in keys_shown(index)]


def test_an_opened_index_gives_out_nothing_that_its_dataset_no_longer_has(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    index_of(finished / "shards", folder)
    index = OpenedIndex(folder)
    assert (index.notes, index.has_changed()) == ([], False)
    # A stopped takedown has written its sidecar, but no manifest.
    write_sidecar(tmp_path / "new.tar", *(n for n in range(12) if n != 3))
    (tmp_path / "new.parquet").replace(finished / "shards" / "00000.parquet")
    assert index.has_changed()
    assert shown(OpenedIndex(folder)) == [0, 1, 2, *range(4, 24)]
    take_down(finished, 3)
    assert index.has_changed()
    index = OpenedIndex(folder)
    again = f"alignset search index --model=colours --data={finished}/shards --index={folder}"
    assert index.notes == [
        f"the index is older than {finished}/shards (1 image left out): make it again: {again}"
    ]
    assert not index.has_changed()
    assert (len(index.rows), index.pictures) == (24, 23)
    assert index.row_of(f"{3:016x}") is None
    with pytest.raises(SettingsError, match="the index has no image"):
        query_vector(SearchQuery((Term("key", f"{3:016x}"),)), index, ColourModel().embed_texts)
    for query in (SearchQuery(), SearchQuery(caption="picture")):
        row_mask = index.row_mask(query)
        assert row_mask is not None
        assert np.flatnonzero(~row_mask).tolist() == [3]
    assert shown(index) == [0, 1, 2, *range(4, 24)]
    for name in ("00000", "00001"):  # nothing is in it, or it was made of other pairs
        write_sidecar(finished / "shards" / f"{name}.tar", 99)
    assert shown(OpenedIndex(folder)) == []
    (finished / "shards" / "00000.parquet").write_bytes(b"cut")
    with pytest.raises(TrainingError, match=r"00000.parquet cannot be read .*: put it right"):
        OpenedIndex(folder)
    finished.rename(tmp_path / "moved")
    index = OpenedIndex(folder)
    assert (index.pictures, len(index.notes)) == (24, 1)
    assert f"{finished}/shards, which the index was made of, is not on a disk" in index.notes[0]


def test_made_anew_an_index_has_what_its_dataset_has(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    first = index_of(finished / "shards", folder)
    assert index_of(finished / "shards", folder) == first
    take_down(finished, 3)
    assert f"{3:016x}".encode() in stored(folder)
    assert index_of(finished / "shards", folder).rows == 23
    assert OpenedIndex(folder).notes == []
    assert f"{4:016x}".encode() in stored(folder)
    assert f"{3:016x}".encode() not in stored(folder)
    assert len(files_of(folder)) == 3  # with the lock
    # More pairs.
    write_tar(finished / "shards" / "00002.tar", colour_files(40, 1))
    (finished / "manifest.json").write_text("more")
    (note,) = OpenedIndex(folder).notes
    assert note.startswith(f"the index is older than {finished}/shards: make it again")
    # Other images, and another model.
    other = picture_folder(tmp_path / "data", each=1)
    assert index_of(other, folder, ColourModel(seed=1)).digest == "01" * 32
    assert len(keys_shown(OpenedIndex(folder))) == 8


def test_files_that_are_gone_are_left_out(tmp_path: Path) -> None:
    """Shards without sidecars, and images, of an index that a server has opened."""
    shards, data = colour_shards(tmp_path / "shards"), picture_folder(tmp_path / "data", each=3)
    (data / "top.jpg").write_bytes((data / "red/0.jpg").read_bytes())
    index_of(data, tmp_path / "images")
    index = OpenedIndex(tmp_path / "images")
    keys = keys_shown(index)
    assert (len(keys), index.notes, index.has_changed()) == (25, [], False)
    gone = ["red/1.jpg", "top.jpg", *(f"green/{n}.jpg" for n in range(3))]
    for file in gone[:2]:
        (data / file).unlink()
        assert index.has_changed()
        index = OpenedIndex(tmp_path / "images")
        assert file not in keys_shown(index)
    (data / "green").rename(tmp_path / "elsewhere")
    index = OpenedIndex(tmp_path / "images")
    assert keys_shown(index) == [key for key in keys if key not in gone]
    assert f"the index is older than {data} (5 images left out): make it" in index.notes[0]
    assert gone[0].encode() in stored(tmp_path / "images")
    index_of(shards, tmp_path / "tars")
    (shards / "00001.tar").unlink()
    index = OpenedIndex(tmp_path / "tars")
    assert shown(index) == [*range(12)]
    assert f"the index is older than {shards} (12 images left out)" in index.notes[0]


def test_rows_that_no_sidecar_named_stay(finished: Path, tmp_path: Path) -> None:
    """Tables of other tools need not have the keys of the tar; links lead to the dataset."""
    (tmp_path / "mix").mkdir()
    for name in ("00000.tar", "00001.tar"):
        (tmp_path / "mix" / name).symlink_to(finished / "shards" / name)
    other = colour_shards(tmp_path / "other", shards=1)
    pq.write_table(pa.table({"key": [1, 2]}), other / "00000.parquet")
    for data in (tmp_path / "mix", other):
        index_of(data, tmp_path / data.name / "index")
    take_down(finished, 3)
    assert shown(OpenedIndex(tmp_path / "mix" / "index")) == [0, 1, 2, *range(4, 24)]
    assert shown(OpenedIndex(tmp_path / "other" / "index")) == [*range(12)]


def test_an_index_of_shards(tmp_path: Path) -> None:
    shards, folder = colour_shards(tmp_path / "shards"), tmp_path / "index"
    rows = [
        {"key": f"{i:016x}", "url": f"http://img{i}.example.org/{i}.png", "unsafe_score": i / 24}
        for i in range(12)
    ]
    pq.write_table(pa.Table.from_pylist(rows), shards / "00000.parquet")
    more = {"a.jpg": b"no picture", "a.txt": b"", "b.txt": b"a text alone"}
    write_tar(shards / "00002.tar", colour_files(24, 5) | colour_files(3, 1) | more)
    document, left_out = make_index(folder, find_sources(str(shards)), ColourModel(), **MAKING)
    assert (document.rows, document.kind, document.recall) == (29, "exact", 1.0)
    assert left_out == {"no_image": 1, "undecodable": 1, "repeated_key": 1}
    assert [*document.sources.values()] == [12, 12, 5]
    index = OpenedIndex(folder)
    row = index.rows.slice(3, 1).to_pylist()[0]
    assert (row["url"], row["host"]) == ("http://img3.example.org/3.png", "img3.example.org")
    assert row["unsafe_score"] == pytest.approx(3 / 24)
    assert index.rows["unsafe_score"][20].as_py() is None  # its shard has no sidecar
    assert captions_for(folder, "something red", 1) == ["a red picture"]
    image = Image.open(io.BytesIO(index.thumbnail(20)))
    assert (image.format, max(image.size) <= 64) == ("WEBP", True)


def test_rows_in_groups_and_a_search_by_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the index finds its model from any folder."""
    monkeypatch.setattr(index_files, "GROUP_ROWS", 10)
    monkeypatch.setattr(index_files, "EXACT_ROWS", 100)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    data, folder = picture_folder(tmp_path / "data", each=40), tmp_path / "index"
    document = index_of(data, folder, ColourModel("run"))
    assert document.model == str(tmp_path / "run")
    assert (document.kind, document.factory) == ("cells", "IVF8,SQfp16")
    assert 0.5 < document.recall <= 1
    assert all("green" in caption for caption in captions_for(folder, "green", 5))
    index, whole = OpenedIndex(folder), pq.ParquetFile(folder / ROWS)
    groups = [whole.metadata.row_group(n).num_rows for n in range(3)]
    assert groups == [10, 6, 10]  # of batches of 8
    thumbnails = whole.read(columns=["thumbnail"])["thumbnail"].to_pylist()
    assert [index.thumbnail(row) for row in range(24)] == thumbnails[:24]
    again = index_of(data, folder, ColourModel("hub/name"))
    assert again == dataclasses.replace(document, model="hub/name")


def test_a_killed_command_leaves_the_index_that_was_there(tmp_path: Path) -> None:
    shards, folder = colour_shards(tmp_path / "shards"), tmp_path / "index"
    index_of(picture_folder(tmp_path / "data", each=1), folder)
    before = {name: (folder / name).read_bytes() for name in files_of(folder)}

    class Dies(ColourModel):
        def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
            self.calls.append(len(images))
            if len(self.calls) == 3:
                raise KeyboardInterrupt
            with pytest.raises(TrainingError, match="another command is making the index"):
                index_of(shards, folder)
            return super().embed_images(images)

    def dies(*paths: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_of(shards, folder, Dies())
    assert {name: (folder / name).read_bytes() for name in files_of(folder)} == before
    with pytest.MonkeyPatch.context() as patch:  # when faiss's file is there, and not its rows
        patch.setattr(pq.ParquetWriter, "add_key_value_metadata", dies)
        with pytest.raises(KeyboardInterrupt):
            index_of(shards, folder)
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert len(files_of(folder)) == len(before) + 1
    assert len(keys_shown(OpenedIndex(folder))) == 8
    write_tar(tmp_path / "bad" / "00000.tar", {"a.jpg": b"no picture", "a.txt": b""})
    with pytest.raises(SettingsError, match=r"nothing could be taken into .*1 undecodable"):
        index_of(tmp_path / "bad", folder)
    index_of(shards, folder)
    assert len(files_of(folder)) == len(before)
    assert shown(OpenedIndex(folder)) == [*range(24)]


def test_a_damaged_index_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    document = index_of(colour_shards(tmp_path / "shards", shards=1), folder)
    whole = (folder / ROWS).read_bytes()
    table = pq.read_table(folder / ROWS)
    fields = json.loads(pq.read_metadata(folder / ROWS).metadata[DOCUMENT])

    def rewritten(rows: pa.Table, **changes: object) -> Callable[[], None]:
        text = json.dumps(fields | changes)
        return lambda: pq.write_table(rows.replace_schema_metadata({DOCUMENT: text}), folder / ROWS)

    for damage, text in (
        (lambda: (folder / ROWS).write_bytes(whole[:-50]), "cannot be read .*make it anew"),
        (lambda: (folder / ROWS).write_bytes(b""), "cannot be read"),
        (lambda: (folder / ROWS).write_bytes(whole.replace(b"a red", b"a \xff\xff\xff")), "UTF8"),
        (lambda: pq.write_table(pa.table({"a": [1]}), folder / ROWS), "cannot be read"),
        (rewritten(table[1:]), "hold the 12 rows"),
        (rewritten(table.drop_columns(["phash"])), "other columns"),
        (rewritten(table, vectors="none.faiss"), "none.faiss cannot be read"),
        (rewritten(table, vectors="../none.faiss"), "index/none.faiss cannot be read"),
        (rewritten(table, more=1), "cannot be read"),
    ):
        damage()
        with pytest.raises(TrainingError, match=text):
            OpenedIndex(folder)
    (folder / ROWS).write_bytes(whole)
    (folder / document.vectors).write_bytes(b"cut")
    with pytest.raises(TrainingError, match="faiss cannot be read"):
        OpenedIndex(folder)
    rewritten(table, format=8)()
    with pytest.raises(SettingsError, match="of another version of alignset: make the index anew"):
        OpenedIndex(folder)
    with pytest.raises(SettingsError, match="holds no index: make one"):
        OpenedIndex(tmp_path / "shards")
