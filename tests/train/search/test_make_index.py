"""Indexes made and opened beside their datasets, the nearest rows, and embeddings as files."""

import dataclasses
import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.model.embed import BF16
from alignset.train.search import index_files
from alignset.train.search.embed import main
from alignset.train.search.index_files import (
    CELL_SHARE,
    DOCUMENT,
    ROWS,
    Neighbours,
    faiss,
    make_faiss_index,
    make_index,
    measured_recall,
)
from alignset.train.search.known_rows import WRITING
from alignset.train.search.pictures import Picture, find_sources
from alignset.train.search.query import (
    OpenedIndex,
    SearchQuery,
    Term,
    find_results,
    open_model,
    query_vector,
    sample_results,
)
from tests.support.closeness import close
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
    again = f"alignset search index --model=colours --data={finished}/shards --output={folder}"
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


def test_an_index_takes_over_the_rows_of_the_one_before(tmp_path: Path) -> None:
    shards, folder = tmp_path / "shards", tmp_path / "index"
    write_tar(shards / "0.tar", colour_files(0, 20))
    index_of(shards, folder)
    write_tar(shards / "0.tar", colour_files(1, 29) | {"x.jpg": b"no image", "x.txt": b"a"})
    rows = [{"key": f"{3:016x}", "url": "http://b.example/3"}]
    pq.write_table(pa.Table.from_pylist(rows, SIDECAR), shards / "0.parquet")
    grown, anew = ColourModel(), ColourModel()
    document = index_of(shards, folder, grown)
    assert document == index_of(shards, tmp_path / "anew", anew)
    assert (grown.image_count, anew.image_count, document.rows) == (10, 29, 29)
    assert stored(folder) == stored(tmp_path / "anew")
    index = OpenedIndex(folder)
    assert index.rows["host"][2].as_py() == "b.example"  # of a row that was taken over
    # Another model, thumbnails of another size, damaged bytes of a thumbnail: all is made anew.
    other = ColourModel(seed=1)
    index_of(shards, folder, other)
    making = MAKING | {"thumbnail_px": 32}
    thumbnails = ColourModel(seed=1)
    make_index(folder, find_sources(str(shards)), thumbnails, **making)
    assert (other.image_count, thumbnails.image_count) == (29, 29)
    whole = (folder / ROWS).read_bytes()
    at = whole.index(b"WEBP")
    (folder / ROWS).write_bytes(whole[:at] + b"XXXX" + whole[at + 4 :])
    damaged = ColourModel(seed=1)
    make_index(folder, find_sources(str(shards)), damaged, **making)
    assert damaged.image_count == 29
    assert (folder / ROWS).read_bytes() == whole


def test_large_images_are_decoded_in_small_parts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("alignset.train.data.images.MOST_PIXELS", 3 * 40 * 36)
    sizes: list[int] = []
    make_index(
        tmp_path / "index",
        find_sources(str(colour_shards(tmp_path / "shards", shards=1, each=8))),
        ColourModel(),
        **MAKING,
        tell=sizes.append,
    )
    assert sizes == [3, 3, 2]


def test_bf16_is_another_model_to_an_index_and_the_same_to_a_query(tmp_path: Path) -> None:
    shards, folder = colour_shards(tmp_path / "shards"), tmp_path / "index"
    fast, exact = ColourModel(), ColourModel()
    fast.digest = BF16 + exact.digest
    index_of(shards, folder, fast)
    with mock.patch("alignset.train.model.embed.open_embedder", return_value=exact) as opened:
        assert open_model(None, OpenedIndex(folder)) is exact
    opened.assert_called_once_with("colours", fast=False)
    index_of(shards, folder, exact)  # takes no row over
    assert exact.image_count == 24
    assert exact.preparers
    assert threading.get_ident() not in exact.preparers


def test_a_damaged_index_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    document = index_of(colour_shards(tmp_path / "shards", shards=1), folder)
    whole = (folder / ROWS).read_bytes()
    table = pq.read_table(folder / ROWS)
    fields = json.loads(pq.read_metadata(folder / ROWS).metadata[DOCUMENT])

    def rewritten(rows: pa.Table, **changes: object) -> Callable[[], None]:
        text = json.dumps(fields | changes)
        marked = rows.replace_schema_metadata({DOCUMENT: text})
        return lambda: pq.write_table(marked, folder / ROWS, **WRITING)

    for damage, text in (
        (lambda: (folder / ROWS).write_bytes(whole[:-50]), "cannot be read .*make it anew"),
        (lambda: (folder / ROWS).write_bytes(b""), "cannot be read"),
        (lambda: (folder / ROWS).write_bytes(whole.replace(b"a red", b"a \xff\xff\xff")), "CRC"),
        (lambda: pq.write_table(pa.table({"a": [1]}), folder / ROWS), "cannot be read"),
        (rewritten(table[1:]), "hold the 12 rows"),
        (rewritten(table.drop_columns(["phash"])), "other columns"),
        (rewritten(table, vectors="none.faiss"), "none.faiss cannot be read"),
        (rewritten(table, vectors="../none.faiss"), "index/none.faiss cannot be read"),
        (rewritten(table, more=1), "cannot be read"),
        (rewritten(table, model=5), "Expected `str`, got `int`"),
        (rewritten(table, sources=["a"]), "Expected `object`, got `array`"),
        (rewritten(table, manifests=None), "Expected `object`, got `null`"),
        (rewritten(table, dimensions=10**30), "too large"),
    ):
        damage()
        with pytest.raises(TrainingError, match=text):
            OpenedIndex(folder)
    (folder / ROWS).write_bytes(whole)
    (folder / document.vectors).write_bytes(b"cut")
    with pytest.raises(TrainingError, match="faiss cannot be read"):
        OpenedIndex(folder)
    rewritten(table, format=7)()
    with pytest.raises(SettingsError, match="of another version of alignset: make the index anew"):
        OpenedIndex(folder)
    with pytest.raises(SettingsError, match="holds no index: make one"):
        OpenedIndex(tmp_path / "shards")


KEY = f"{0:016x}"
BYTES = pa.array([b"http://\xff/"])


def first_of(folder: Path, **columns: object) -> Picture:
    """The one image of a shard with a sidecar of these columns."""
    write_tar(folder / "0.tar", colour_files(0, 1))
    pq.write_table(pa.table(columns), folder / "0.parquet")
    (source,) = find_sources(str(folder))
    (picture,) = source.pictures()
    return picture


SIDECARS = {
    "large binary": ({"url": pa.array([b"http://a/"], pa.large_binary())}, ("http://a/", None)),
    "dictionary": ({"url": pa.array(["http://[.]/"]).dictionary_encode()}, ("http://[.]/", None)),
    "numbers as texts": ({"url": [7], "unsafe_score": ["0.5"]}, ("7", 0.5)),
    "nulls": ({"url": pa.nulls(1), "unsafe_score": [Decimal("0.5")]}, ("", 0.5)),
    "no key": ({"key": ["other"], "url": ["http://a/"]}, ("", None)),
    "not UTF-8": ({"url": BYTES.view(pa.string())}, None),
    "bytes": ({"url": BYTES}, None),
    "lists": ({"unsafe_score": [[0.5]]}, None),
    "words": ({"unsafe_score": ["high"]}, None),
}


@pytest.mark.parametrize(("columns", "expected"), SIDECARS.values(), ids=SIDECARS)
def test_sidecars_of_any_kind(tmp_path: Path, columns: dict, expected: tuple | None) -> None:
    if expected:
        picture = first_of(tmp_path, **{"key": [KEY]} | columns)
        assert (picture.url, picture.unsafe_score) == expected
        return
    with pytest.raises(TrainingError, match=r"0.parquet cannot be read \(.*\): put it right"):
        first_of(tmp_path, key=[KEY], **columns)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_bytes(b"<svg/>")
    with pytest.raises(SettingsError, match=r"images that are read \(1 .svg; .*'a.svg'\): name"):
        find_sources(str(tmp_path))
    (tmp_path / "a.png").write_bytes(colour_files(0, 1)[f"{KEY}.png"])
    for rows, text in (
        ("red\n", "row 2 of .* has 1 field"),
        ("red,b.png\n", "has 1 caption of what is not among the images"),
    ):
        (tmp_path / "captions.csv").write_text("caption,file\n" + rows)
        with pytest.raises(SettingsError, match=text):
            find_sources(str(tmp_path))


def embedded(capsys, *flags: object) -> dict:
    model = ColourModel()
    with mock.patch("alignset.train.model.embed.open_embedder", return_value=model):
        assert main(["--model=colours", *map(str, flags)]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_shards_as_parquet_and_as_npy(tmp_path: Path, capsys):
    files = colour_files(0, 20) | {"x.jpg": b"no image", "x.txt": b"a", "y.txt": b"no file"}
    data = write_tar(tmp_path / "shards" / "0.tar", files).parent
    out = tmp_path / "both.parquet"
    result = embedded(capsys, f"--data={data}", f"--out={out}", "--tower=both", "--batch_size=8")
    assert (result["rows"], result["width"]) == (20, 32)
    assert result["left_out"] == {"no_image": 1, "undecodable": 1}
    table = pq.read_table(out)
    assert table.schema.metadata[b"sha256"].decode() == result["sha256"]
    vectors = ["image_embedding", "text_embedding"]
    assert table.column_names == ["key", "caption", "url", "image_sha256", *vectors]
    assert table["key"].to_pylist() == [f"{i:016x}" for i in range(20)]
    assert table["image_sha256"][1].as_py() == hashlib.sha256(files[f"{1:016x}.png"]).hexdigest()
    assert table["caption"][1].as_py() == "a green picture"
    images, texts = (
        np.array(table[f"{tower}_embedding"].to_pylist(), np.float32) for tower in ("image", "text")
    )
    nearest = (images @ texts.T).argmax(axis=1)
    # The nearest text names its colour; on some processors such a model confuses one colour.
    assert sum(near % 8 == row % 8 for row, near in enumerate(nearest.tolist())) >= 16
    for tower, wanted in (("image", images), ("text", texts)):
        npy = tmp_path / f"{tower}.npy"
        embedded(capsys, f"--data={data}", f"--out={npy}", f"--tower={tower}")
        assert np.load(npy).dtype == np.float32
        assert np.array_equal(np.load(npy), wanted)
        assert Path(f"{npy}.keys").read_text().split() == table["key"].to_pylist()


def test_keys_of_one_run_are_never_beside_rows_of_another(tmp_path: Path, capsys, monkeypatch):
    data, npy = picture_folder(tmp_path / "data", each=1), tmp_path / "a.npy"
    flags = f"--data={data}", f"--out={npy}", "--tower=image"
    embedded(capsys, *flags)
    keys = Path(f"{npy}.keys").read_text()
    for calls in (1, 2):  # of the two files that get their names, one after the other
        left, replace = [calls], os.replace

        def dying(*paths: Path, left=left, replace=replace) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise OSError("killed")
            replace(*paths)

        monkeypatch.setattr(os, "replace", dying)
        with pytest.raises(OSError, match="killed"):
            embedded(capsys, *flags)
        monkeypatch.undo()
        assert npy.exists()
        assert not Path(f"{npy}.keys").exists()
    embedded(capsys, *flags)
    assert Path(f"{npy}.keys").read_text() == keys


def test_of_a_grown_dataset_what_is_new_alone_is_embedded(tmp_path: Path, capsys) -> None:
    shards, out = tmp_path / "shards", tmp_path / "a.parquet"
    write_tar(shards / "0.tar", colour_files(0, 20))
    flags = f"--data={shards}", f"--out={out}", "--batch_size=8"
    assert embedded(capsys, *flags)["known"] == 0
    # One left, others came, and one has other bytes; one another caption.
    files = colour_files(1, 29)
    files[f"{4:016x}.png"] = colour_files(31, 1)[f"{31:016x}.png"]
    files[f"{2:016x}.txt"] = b"a caption of its own"
    write_tar(shards / "0.tar", files)
    result = embedded(capsys, *flags)
    assert (result["rows"], result["known"]) == (29, 17)
    grown = pq.read_table(out)
    out.unlink()
    assert embedded(capsys, *flags)["known"] == 0
    assert pq.read_table(out).equals(grown)
    flags = (*flags, "--tower=both")
    assert embedded(capsys, *flags)["known"] == 0  # it has no embeddings of texts
    files[f"{3:016x}.txt"] = b"a red caption"
    write_tar(shards / "0.tar", files)
    assert embedded(capsys, *flags)["known"] == 28
    both = pq.read_table(out)
    assert both["caption"][2].as_py() == "a red caption"
    whole = out.read_bytes()
    at = pq.read_metadata(out).row_group(1).column(4).data_page_offset + 100
    for damage in (b"", whole[:-9], whole[:at] + bytes(8) + whole[at + 8 :]):
        out.write_bytes(damage)
        assert embedded(capsys, *flags)["known"] == (21 if len(damage) == len(whole) else 0)
        again = pq.read_table(out)  # an image that is embedded alone may differ in the last bit
        for made, before in zip(again.columns, both.columns, strict=True):
            assert made.equals(before) or np.allclose(made.to_pylist(), before.to_pylist())


@pytest.mark.parametrize(
    ("out", "more", "says"),
    [
        ("a.csv", "--tower=image", "must end with .parquet, or with .npy for one --tower"),
        ("a.npy", "--tower=both", "with .npy for one --tower"),
        ("none/a.npy", "--tower=text", "there is no folder"),
        ("a.npy", "--batch_size=0", "batch_size must be at least 1"),
    ],
)
def test_wrong_flags_are_one_line(out: str, more: str, says: str, tmp_path: Path, refused):
    refused(says, main, "--model=m", f"--data={tmp_path}", f"--out={tmp_path / out}", more)
    assert not [*tmp_path.iterdir()]


SEED, WIDTH = 11, 32
CELLS = "IVF64,SQfp16"
QUERY = SearchQuery((Term("text", "a"),))


def unit(random: np.random.Generator, count: int) -> np.ndarray:
    centres = np.random.default_rng(SEED).normal(size=(30, WIDTH))
    rows = centres[random.integers(0, 30, count)] + 0.7 * random.normal(size=(count, WIDTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    print(f"seed {SEED}")
    return unit(np.random.default_rng(SEED), 4000).astype(np.float16)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return unit(np.random.default_rng(SEED + 1), 40)


@pytest.mark.parametrize(
    ("factory", "share"), [("SQfp16", CELL_SHARE), (CELLS, 1.0)], ids=["exact", "all cells"]
)
def test_the_nearest_rows_are_numpys(
    rows: np.ndarray, queries: np.ndarray, factory: str, share: float
) -> None:
    every = Neighbours(make_faiss_index(rows, factory), share)
    assert np.array_equal(every.vectors_of(np.array([3999, 0])), rows[[3999, 0]].astype(np.float32))
    scores = queries @ rows.astype(np.float32).T
    row_mask = np.arange(4000) % 7 == 3
    for query, line in zip(queries, scores, strict=True):
        near = every.nearest(query, 10)
        # Neighbours are 6e-6 apart with this seed, more than the rounding of 32 terms.
        assert np.array_equal(near[1], np.argsort(-line, kind="stable")[:10])
        assert close(near[0], line[near[1]], terms=WIDTH)
        filtered = every.nearest(query, 10, row_mask)[1]
        assert set(filtered) == set(np.argsort(-np.where(row_mask, line, -2))[:10])
    assert len(every.nearest(queries[0], 5000)[1]) == 4000
    assert len(every.nearest(queries[0], 10, np.zeros(4000, bool))[1]) == 0


def test_few_cells_find_what_all_find(rows: np.ndarray, queries: np.ndarray) -> None:
    index, again = (make_faiss_index(rows, CELLS) for _ in range(2))
    assert np.array_equal(faiss.serialize_index(index), faiss.serialize_index(again))
    assert 0.9 < measured_recall(index) <= 1
    noise = np.random.default_rng(SEED).normal(size=(3000, WIDTH)).astype(np.float16)
    assert 0.1 < measured_recall(make_faiss_index(noise, CELLS)) < 0.8
    assert len({*Neighbours(index).nearest(queries[0], 100)[1].tolist()}) == 100
    # All rows that pass may lie far from the query.
    row_mask = np.isin(np.arange(4000), np.argsort(rows.astype(np.float32) @ queries[0])[:400])
    found = Neighbours(index).nearest(queries[0], 100, row_mask)[1]
    assert (len(found), row_mask[found].all()) == (100, True)


@dataclass
class MadeIndex:
    """An index in memory, of unit vectors and hashes."""

    neighbours: Neighbours
    phashes: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.phashes)
        texts = [str(row) for row in range(n)]
        self.rows = pa.table(
            dict.fromkeys(("key", "caption", "url", "host"), texts)
            | dict.fromkeys(("width", "height"), [9] * n)
            | {"unsafe_score": pa.nulls(n, pa.float32())}
        )

    def row_mask(self, query: SearchQuery) -> None:
        return None


def test_the_first_of_more_are_the_first_of_fewer(rows: np.ndarray, queries: np.ndarray) -> None:
    hashes = np.random.default_rng(5).integers(0, 1 << 63, 4000).astype(np.uint64)
    index = MadeIndex(Neighbours(make_faiss_index(rows, CELLS), cell_share=0.5), hashes)
    for vector in queries[:20]:
        few, most = (
            [result["key"] for result in find_results(vector, QUERY, index, count)]  # type: ignore[arg-type]
            for count in (100, 1000)
        )
        assert [len(few), len(most), len(set(most))] == [100, 1000, 1000]
        assert most[:100] == few


def folded(angles: list[float], hashes: list[int], count: int = 10) -> list[tuple[int, int]]:
    """(row, copies) of the results of a query at the angle 0."""
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
    neighbours = Neighbours(make_faiss_index(vectors, "SQfp16"))
    index = MadeIndex(neighbours, np.array(hashes, np.uint64))
    results = find_results(np.array([1, 0], np.float32), QUERY, index, count)  # type: ignore[arg-type]
    assert {result["unsafe"] for result in results} == {None}  # without a score
    return [(int(result["key"]), result["folded"]) for result in results]


def test_duplicates_are_near_by_their_hash_and_their_embedding() -> None:
    assert np.cos(0.31) > 0.95 > np.cos(0.33)
    for angles, hashes, expected in (
        ([0.1, 0.2], [0, 0b111111], [(0, 1)]),
        ([0.1, 0.2], [0, 0b1111111], [(0, 0), (1, 0)]),
        ([0.0, 0.31], [5, 5], [(0, 1)]),
        ([0.0, 0.33], [5, 5], [(0, 0), (1, 0)]),
        # 2 is near 1 and not 0, by its hash; 1 is near 0.
        ([0.0, 0.1, 0.2, 0.3], [0, 0b1111, 0b11111111, 0xFFFF << 40], [(0, 2), (3, 0)]),
        # 1 is near 2 and not 0, by its embedding; 2 is near 0.
        ([0.0, 0.33, 0.17], [0, 0, 0], [(0, 2)]),
        # 3 is near 1 and 2, which are two images: it is the nearer one's to the query.
        (
            [0.0, 0.5, 0.8, 0.81],
            [1 << 60, 0, 0b1111111, 0b1111],
            [(0, 0), (1, 1), (2, 0)],
        ),
    ):
        assert folded(angles, hashes) == expected, (angles, hashes)
    # Few results are as many as are wanted beside many duplicates.
    assert folded([0.0] * 50 + [0.5, 1.0, 1.5], [7] * 53, 3) == [(0, 49), (50, 0), (51, 0)]
