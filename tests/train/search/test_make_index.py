"""Indexes made, made again, resumed, refused, and opened beside their datasets."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search import index_files, pictures
from alignset.train.search.index_files import part_path, read_index, write_index
from alignset.train.search.make_index import add_sources, write_table
from alignset.train.search.pictures import find_sources
from alignset.train.search.query import (
    Filters,
    OpenedIndex,
    SearchQuery,
    Term,
    find_results,
    query_vector,
    sample_results,
)
from tests.support.colour_search import ColourModel, index_of, making, picture_folder
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
        index.vector_of(f"{3:016x}")
    for filters in (Filters(), Filters(caption="picture")):
        row_mask = index.row_mask(filters)
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


def test_made_again_an_index_has_what_its_dataset_has(finished: Path, tmp_path: Path) -> None:
    folder, other = tmp_path / "index", picture_folder(tmp_path / "data", each=1)
    index_of(finished / "shards", folder)
    index_of(other, folder)
    take_down(finished, 3)
    again = index_of(finished / "shards", folder)
    assert (again.document.rows, again.rows, again.removed_rows) == (24 + 8 - 1, 11, 12)
    index = OpenedIndex(folder)
    assert (index.notes, len(index.rows)) == ([], 31)
    assert f"{3:016x}" not in index.rows["key"].to_pylist()
    stored = b"".join((folder / name).read_bytes() for name in files_of(folder))
    assert f"{4:016x}".encode() in stored
    assert f"{3:016x}".encode() not in stored
    # More pairs; a shard that is gone goes with other sources, and a folder that is away stays.
    write_sidecar(finished / "shards" / "00002.tar", 40)
    write_tar(finished / "shards" / "00002.tar", colour_files(40, 1))
    (finished / "manifest.json").write_text("more")
    (note,) = OpenedIndex(folder).notes
    assert note.startswith(f"the index is older than {finished}/shards: make it again")
    for end in ("tar", "parquet"):
        (finished / "shards" / f"00001.{end}").unlink()
    gone = index_of(finished / "shards", folder)
    assert (gone.document.rows, gone.rows, gone.removed_rows) == (11 + 8 + 1, 1, 12)
    finished.rename(tmp_path / "away")
    assert index_of(other, folder).document.rows == 20


def test_files_that_are_gone_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards without sidecars, and images, of an index that a server has opened."""
    monkeypatch.setattr(pictures, "FOLDER_PART", 4)
    shards, data = colour_shards(tmp_path / "shards"), picture_folder(tmp_path / "data", each=3)
    (data / "top.jpg").write_bytes((data / "red/0.jpg").read_bytes())
    folder = tmp_path / "index"
    for source in (shards, data):
        index_of(source, folder)
    index = OpenedIndex(folder)
    keys = keys_shown(index)
    assert (len(keys), index.notes, index.has_changed()) == (24 + 25, [], False)
    gone = ["red/1.jpg", "top.jpg", *(f"green/{n}.jpg" for n in range(3))]
    for file in gone[:2]:
        (data / file).unlink()
        assert index.has_changed()
        index = OpenedIndex(folder, index)
        assert file not in keys_shown(index)
    (data / "green").rename(tmp_path / "elsewhere")
    (shards / "00001.tar").unlink()
    index = OpenedIndex(folder, index)
    left = [key for key in keys if key not in gone + [f"{n:016x}" for n in range(12, 24)]]
    assert keys_shown(index) == left
    assert [note.partition(": make it again")[0] for note in index.notes] == [
        f"the index is older than {shards} (12 images left out)",
        f"the index is older than {data} (5 images left out)",
    ]
    stored = b"".join((folder / name).read_bytes() for name in files_of(folder))
    assert all(key.encode() in stored for key in gone)
    (data / "blue/0.jpg").write_bytes((data / "red/0.jpg").read_bytes() + b"\0")
    again = index_of(data, folder)
    index = OpenedIndex(folder)
    assert (index.notes, sorted(keys_shown(index))) == ([], sorted(left))
    assert again.document.rows == len(left) == 12 + 20
    assert again.rows < 20  # parts whose files are as they were are not read again
    stored = b"".join((folder / name).read_bytes() for name in files_of(folder))
    assert not any(key.encode() in stored for key in gone)
    assert np.array_equal(index.vector_of("blue/0.jpg"), index.vector_of("red/0.jpg"))


def test_a_takedown_that_was_stopped_hides_rows_too(finished: Path, tmp_path: Path) -> None:
    """The sidecar is written, the manifest is not."""
    index_of(finished / "shards", tmp_path / "index")
    index = OpenedIndex(tmp_path / "index")
    write_sidecar(tmp_path / "new.tar", *(n for n in range(12) if n != 3))
    (tmp_path / "new.parquet").replace(finished / "shards" / "00000.parquet")
    assert index.has_changed()
    assert shown(OpenedIndex(tmp_path / "index", index)) == [0, 1, 2, *range(4, 24)]


def test_hidden_rows_stay_hidden_while_their_dataset_is_away(
    finished: Path, tmp_path: Path
) -> None:
    """A server opens an index again after another source came in."""
    folder, other = tmp_path / "index", picture_folder(tmp_path / "data", each=1)
    index_of(finished / "shards", folder)
    take_down(finished, 3)
    index = OpenedIndex(folder)
    finished.rename(tmp_path / "away")
    write_tar(tmp_path / "more" / "00000.tar", colour_files(50, 3))
    for source in (other, tmp_path / "more"):
        index_of(source, folder)
        assert index.has_changed()
        index = OpenedIndex(folder, index)
        assert index.pictures == len(index.rows) - 1
        assert index.row_of(f"{3:016x}") is None
    # The dataset is back, and has the image again.
    (tmp_path / "away").rename(finished)
    write_sidecar(finished / "shards" / "00000.tar", *range(12))
    assert OpenedIndex(folder, index).row_of(f"{3:016x}") is not None


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
            lambda: write_whole(path, lambda file: write_table(rows.drop(["phash"]), file)),
            "other col",
        ),
    ):
        damage()
        with pytest.raises(TrainingError, match=text):
            OpenedIndex(tmp_path / "index")
    with pytest.raises(SettingsError, match="holds no index: make one"):
        OpenedIndex(tmp_path / "shards")
    document = json.loads((tmp_path / "index" / "index.json").read_text())
    for changed, text in ((document | {"format": 4}, "another version"), ({}, "cannot be read")):
        (tmp_path / "index" / "index.json").write_text(json.dumps(changed))
        with pytest.raises(SettingsError, match=text):
            OpenedIndex(tmp_path / "index")


def test_a_killed_command_leaves_no_row_twice(tmp_path: Path) -> None:
    """A part that a killed `index` made before its keys came in by another source."""
    shards, folder = colour_shards(tmp_path / "shards"), tmp_path / "index"
    index_of(shards, folder)
    write_tar(shards / "00004.tar", colour_files(40, 4))
    document = read_index(folder)
    index_of(shards, folder)
    left_over = part_path(folder, [*read_index(folder).parts][-1])
    rows = left_over.read_bytes()
    write_index(folder, document)
    left_over.write_bytes(rows)
    write_tar(shards / "00003.tar", colour_files(38, 6))
    index_of(shards, folder)
    found = OpenedIndex(folder).rows["key"].to_pylist()
    assert len(found) == len(set(found)) == 24 + 6


def test_a_large_index_has_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_files, "EXACT_ROWS", 100)
    data, folder = picture_folder(tmp_path / "data", each=40), tmp_path / "index"
    document = index_of(data, folder).document
    assert (document.kind, document.factory) == ("cells", "IVF8,SQfp16")
    assert 0.5 < document.recall <= 1
    assert all("green" in caption for caption in captions_for(folder, "green", 5))
    again = index_of(data, folder).document  # nothing came in
    assert again == document
    assert index_of(colour_shards(tmp_path / "shards"), folder).document.rows == 320 + 24
    assert captions_for(folder, "yellow picture", 100).count("a yellow picture") >= 1
    assert len([*folder.glob("vectors-*")]) == 1
