"""Samples out of tars, as WebDataset groups them; the index of shards, and texts drawn."""

import gzip
import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds

from alignset.train.data.samples import (
    LONGEST_IMAGE,
    LONGEST_JSON,
    LONGEST_TEXT,
    TXT,
    json_captions,
    json_object,
    read_pairs,
    shard_samples,
)
from alignset.train.data.shard_index import (
    DrawnTexts,
    load_indexes,
    read_indexes,
    save_indexes,
    scan_shards,
)
from alignset.train.data.shard_streams import ShardStream
from alignset.train.errors import SettingsError, TrainingError
from tests.support.hostile_tars import HOSTILE, header
from tests.support.train_shards import colour_files, write_tar


def contents(shard: str, first: int = 0, **how) -> list[tuple]:
    """Key, image and text of each sample."""
    return [(of.key, of.image, of.text) for of in shard_samples(shard, first, **how)]


def written(path: Path, names: list[str], tar_format: int) -> Path:
    with tarfile.open(path, "w", format=tar_format) as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 3
            tar.addfile(entry, io.BytesIO(name[-3:].encode()))
        folder = tarfile.TarInfo("folder.txt")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    return path


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_the_same_samples_as_webdataset(tmp_path: Path, tar_format: int):
    long = f"{'d' * 90}/{'k' * 60}" if tar_format == tarfile.USTAR_FORMAT else "é/" * 80 + "ü"
    names = ["a.jpg", "a.txt", "x/a.TXT", "x/a.b.png", f"{long}.jpg", f"{long}.txt", "end.webp"]
    shard = str(written(tmp_path / "0.tar", names, tar_format))
    pipeline = wds.DataPipeline(wds.SimpleShardList([shard]), wds.tarfile_to_samples())
    expected = [
        (s["__key__"], s.get("jpg", s.get("webp")), s["txt"].decode() if "txt" in s else None)
        for s in pipeline
    ]
    assert len(expected) == 4
    assert contents(shard) == expected
    assert expected[3] == ("end", b"ebp", None)


def test_what_is_not_wanted_is_not_read(tmp_path: Path, monkeypatch):
    files = {f"{n}.jpg": bytes(10_000) for n in range(9)} | {"9.txt": b"t", "9.json": bytes(9_000)}
    shard = str(write_tar(tmp_path / "0.tar", files))
    sizes = []
    read = ShardStream.read
    monkeypatch.setattr(
        ShardStream, "read", lambda self, size: sizes.append(size) or read(self, size)
    )
    assert contents(shard, 9) == [("9", None, "t")]
    # 11 headers, the text, and what follows the last member.
    assert sum(sizes) < 11 * 512 + 1 + tarfile.RECORDSIZE
    assert sum(sizes) < Path(shard).stat().st_size // 8


def test_only_pairs_are_read(tmp_path: Path):
    files = {"a.jpg": b"x", "a.txt": b" a  text\n", "b.jpg": b"x", "c.txt": b"y", "d.jpg": b"x"}
    shard = str(write_tar(tmp_path / "0.tar", files | {"d.txt": b"  ", ".hidden": b"", "e": b""}))
    assert list(read_pairs([shard])) == [("a", b"x", "a  text", "")]
    assert [sample.key for sample in shard_samples(shard)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("pipe", [False, True])
def test_a_shard_without_the_zeros_behind_its_members_is_whole(tmp_path: Path, pipe: bool):
    """webdataset and GNU's tar read it too, where the zeros of the end are missing."""
    path = write_tar(tmp_path / "0.tar", colour_files(0, 8))
    expected = list(shard_samples(str(path)))
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0"))
    full = end + -end % 512
    for size in (full + 1023, full + 512, full + 1, full):
        path.write_bytes(whole[:size])
        assert list(shard_samples(f"pipe:cat {path}" if pipe else str(path))) == expected
        samples = wds.WebDataset(str(path), shardshuffle=False)
        assert [sample["__key__"] for sample in samples] == [sample.key for sample in expected]
    for size in (full - 1, end + 1, end, end - 1):  # the last member's own block is not filled
        path.write_bytes(whole[:size])
        with pytest.raises(TrainingError, match=r"is damaged \(it is cut off at byte "):
            list(shard_samples(f"pipe:cat {path}" if pipe else str(path)))


def test_tars_behind_each_other_are_all_read(tmp_path: Path):
    parts = [write_tar(tmp_path / f"{i}.tar", colour_files(4 * i, 4)) for i in range(3)]
    expected = [sample for part in parts for sample in contents(str(part))]
    whole = tmp_path / "whole.tar"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    command = f"pipe:cat {' '.join(map(str, parts))}"
    for shard in (str(whole), command):
        assert contents(shard) == expected
        assert contents(shard, 6) == expected[6:]
    whole.write_bytes(parts[0].read_bytes() + b"no tar" * 100)
    with pytest.raises(TrainingError, match=f"no tar header at byte {parts[0].stat().st_size}"):
        list(shard_samples(str(whole)))
    whole.write_bytes(parts[0].read_bytes() + bytes(700))  # filled up with half a block
    assert contents(str(whole)) == expected[:4]
    # Equal keys where two tars meet are two samples.
    files = [write_tar(tmp_path / f"{i}.tar", {"a.jpg": b"x", "a.txt": b"x"}) for i in range(2)]
    whole.write_bytes(b"".join(path.read_bytes() for path in files))
    assert contents(str(whole)) == [("a", b"x", "x")] * 2


def test_a_compressed_shard_says_how_to_read_it(tmp_path: Path):
    plain = write_tar(tmp_path / "0.tar", colour_files(0, 4))
    packed = tmp_path / "1.tar"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(TrainingError, match=r"1\.tar is compressed: .*'pipe:gzip -dc FILE'"):
        list(shard_samples(str(packed)))
    assert list(shard_samples(f"pipe:gzip -dc {packed}")) == list(shard_samples(str(plain)))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tar_gives_its_samples_or_is_named(tmp_path: Path, name: str):
    tar, expected = HOSTILE[name]
    path = tmp_path / "0.tar"
    path.write_bytes(tar)
    shard = str(path)
    if isinstance(expected, str) and name not in ("nothing", "only an end"):
        with pytest.raises(TrainingError, match=r"0\.tar is damaged \("):
            list(shard_samples(shard))
    elif not isinstance(expected, str):
        plain = [name for name, _, plain in expected if plain and len(name.rpartition(".")[0])]
        keys = [key for n, key in enumerate(plain) if not n or key != plain[n - 1]]
        assert len(list(shard_samples(shard))) == len(keys)


def test_no_size_takes_memory(tmp_path: Path):
    """Neither of what a header says, nor of what is too large to be used."""
    path = tmp_path / "0.tar"
    for kind in (b"L", b"x", b"0"):
        path.write_bytes(header(b"a.jpg", b"77777777777\0", kind) + bytes(1024))
        tracemalloc.start()
        with pytest.raises(TrainingError, match=r"0\.tar is damaged"):
            list(shard_samples(str(path)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 << 20


def test_a_large_image_is_not_read_and_said_to_be(tmp_path: Path):
    files = {"a.jpg": bytes(LONGEST_IMAGE), "a.txt": b"x", "b.jpg": bytes(LONGEST_IMAGE + 1)}
    shard = str(write_tar(tmp_path / "0.tar", files | {"b.txt": b"y", "c.png": b"z"}))
    a, b, c = shard_samples(shard)
    assert (len(a.image), a.text, a.too_large) == (LONGEST_IMAGE, "x", False)
    assert (b.image, b.text, b.too_large) == (None, "y", True)
    assert (c.image, c.text, c.too_large) == (b"z", None, False)
    assert [pair.key for pair in read_pairs([shard])] == ["a"]


@pytest.mark.parametrize("body", [b"a" * (9 << 20), "é".encode() * LONGEST_TEXT])
def test_of_a_long_text_the_beginning_is_read(tmp_path: Path, body: bytes, monkeypatch):
    sizes = []
    read = ShardStream.read
    monkeypatch.setattr(
        ShardStream, "read", lambda self, size: sizes.append(size) or read(self, size)
    )
    shard = str(write_tar(tmp_path / "0.tar", {"a.jpg": b"x", "a.txt": body, "b.txt": b"y"}))
    a, b = shard_samples(shard)
    assert a.text == body[:LONGEST_TEXT].decode("utf-8", "replace").strip()
    assert b.text == "y"
    assert sum(sizes) < LONGEST_TEXT + tarfile.RECORDSIZE


def test_names_longer_than_a_path_can_be_are_no_samples(tmp_path: Path):
    files = {f"{'n' * 5000}.jpg": b"x", "a.jpg": b"y", f"{'d/' * 2047}b.jpg": b"z"}
    shard = str(write_tar(tmp_path / "0.tar", files))
    assert [sample.image for sample in shard_samples(shard)] == [b"y"]
    shard = str(write_tar(tmp_path / "1.tar", {f"{'d/' * 2045}b.jpg": b"z"}))
    assert [sample.image for sample in shard_samples(shard)] == [b"z"]


def test_texts_of_json_in_place_of_txt(tmp_path: Path):
    files = {
        **{"a.jpg": b"x", "a.txt": b"not this", "a.json": b'{"c": ["one", "two"]}'},
        **{"b.jpg": b"y", "b.txt": b"nor this"},
        **{"c.jpg": b"z", "c.json": b'{"c": "' + bytes(LONGEST_JSON) + b'"}'},
    }
    shard = str(write_tar(tmp_path / "0.tar", files))
    a, b, c = shard_samples(shard, places=["json.c"])
    assert a[:3] == ("a", b"x", ("one\ntwo",))
    assert (b.text, c.text) == (None, None)
    assert list(read_pairs([shard], places=["json.c"])) == [("a", b"x", "one\ntwo", "")]
    scanned = [*shard_samples(shard, images=False, places=["json.c"])]
    assert [sample.text for sample in scanned] == ["one\ntwo", None, None]
    assert [(sample.image, sample.image_bytes) for sample in scanned] == [(b"", 1)] * 3
    both = [*shard_samples(shard, places=["txt", "json.c"])]
    assert [of.texts for of in both] == [("not this", "one\ntwo"), ("nor this", None), (None, None)]
    assert [of.text for of in both] == ["not this\none\ntwo", "nor this", None]


def test_the_language_of_a_text_by_its_usual_names(tmp_path):
    cases = (
        ({"language": "de"}, "de"),
        ({"LANGUAGE": " PT-br "}, "pt-br"),
        ({"lang": "fr", "language": None}, "fr"),
        ({"language": 3}, ""),
        ({"language": "x" * 99}, "x" * 32),
        ({"language": "\ud83d"}, "?"),
        ([], ""),
    )
    files = {}
    for number, (said, _) in enumerate(cases):
        files |= {f"{number}.jpg": b"x", f"{number}.txt": b"a text"}
        files[f"{number}.json"] = json.dumps(said).encode()
    shard = str(write_tar(tmp_path / "0.tar", files))
    read = [pair.language for pair in read_pairs([shard], languages=True)]
    assert read == [language for _, language in cases]
    assert {pair.language for pair in read_pairs([shard])} == {""}


def test_captions_of_a_field():
    for data, text in (
        (b'{"c": "two  words\\n"}', "two words"),
        (b'{"c": ["one", " two\\nlines ", "", 7, null, "three"]}', "one\ntwo lines\nthree"),
        *((data, None) for data in (b'{"c": []}', b'{"c": 3}', b'["c"]', b"{", b"\xff\xfe", None)),
        (b"[" * 500_000, None),
        (b'{"c": "half a \\ud83d character"}', "half a ? character"),
        (b'{"c": "' + b"x" * 900_000 + b'"}', "x" * LONGEST_TEXT),
    ):
        assert json_captions(json_object(data), "c") == text


COLUMNS = ("shard", "start", "samples", "size", "image")


@pytest.fixture
def shards(tmp_path: Path, monkeypatch) -> tuple[str, ...]:
    monkeypatch.setattr("alignset.train.data.shard_index.LOCAL_BLOCK", 8)
    monkeypatch.setattr("alignset.train.data.shard_index.REMOTE_BLOCK", 10)
    long = {f"{'k' * 150}{n}.txt": b"long" for n in range(3)}  # headers of their own before theirs
    each = [colour_files(0, 21), {}, colour_files(50, 8) | long]
    return tuple(str(write_tar(tmp_path / f"{i}.tar", files)) for i, files in enumerate(each))


def assert_same(ones: list, others: list) -> None:
    for one, other in zip(ones, others, strict=True):
        assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


def test_texts_are_drawn_in_the_same_reading(shards, tmp_path):
    files = {f"{n}.{part}": f"text {n}".encode() for n in range(300) for part in ("jpg", "txt")}
    many = str(write_tar(tmp_path / "many.tar", files))
    drawn = read_indexes([(shards[0],), (many,)], texts=60)[1]
    texts = drawn.texts[""]
    assert len(texts) == 21 + 30
    numbers = sorted(int(text.split()[1]) for text in texts[21:])
    assert len(set(numbers)) == 30
    assert numbers[0] < 60 < 240 < numbers[-1]  # of all of it
    assert read_indexes([(shards[0], many)], texts=60)[1] == drawn
    assert len(read_indexes([(many,)], texts=10_000)[1].texts[""]) == 300
    assert read_indexes([(many,)])[1] == DrawnTexts({}, {})


def bytes_read() -> int:
    """By this process, in all of its life."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_an_index_skips_the_images_of_a_local_shard(tmp_path):
    files = {}
    for n in range(40):
        files |= {f"{n}.jpg": bytes(100_000), f"{n}.txt": b"a text"}
    shard = write_tar(tmp_path / "0.tar", files)
    read = []
    for _ in range(3):  # what is imported at first is read too
        before = bytes_read()
        read_indexes([(str(shard),)], texts=10)
        read.append(bytes_read() - before)
    assert min(read) < shard.stat().st_size / 10


def test_languages_give_texts_by_their_share_to_the_power_of_a_half(tmp_path):
    files = {}
    for number, language in enumerate(["en"] * 400 + ["th"] * 16 + ["und"] * 4 + [None] * 4):
        said = {"language": language} if language else {"language": 3}
        files |= {f"{number}.jpg": b"x", f"{number}.txt": f"text {number}".encode()}
        files[f"{number}.json"] = json.dumps(said).encode()
    shards = tuple(str(write_tar(tmp_path / f"{i}.tar", files)) for i in range(2))
    drawn = read_indexes([shards], texts=2 * 70, folder=tmp_path)[1]
    assert drawn.counts == {"en": 800, "th": 32, "und": 8, "": 8}
    # 20 : 4 : 2 : 2 of 70 are 50, 10, 5 and 5, and of two languages there are only 4 texts.
    counts = {name: len(texts) // 2 for name, texts in drawn.texts.items()}
    assert counts == {"en": 50, "th": 10, "und": 4, "": 4}
    numbers = [int(text.split()[1]) for text in drawn.texts["en"][:50]]
    assert len(set(numbers)) == 50
    assert min(numbers) < 100 < 300 < max(numbers)
    assert read_indexes([shards], texts=2 * 70, folder=tmp_path)[1] == drawn  # as it was kept


def test_shards_that_hold_none_or_are_damaged_end_with_a_line(shards):
    with pytest.raises(SettingsError, match=r"no sample in 1 shard, such as .*1\.tar"):
        read_indexes([shards[:1], shards[1:2]])
    path = Path(shards[0])
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(TrainingError, match=r"^\S*0\.tar is damaged"):
        read_indexes([shards])
    Path(shards[2]).write_bytes(b"none")  # all are named at once
    with pytest.raises(TrainingError, match=r"^2 shards cannot .*\n .*0\.tar .*\n .*2\.tar "):
        read_indexes([shards])


def test_saved_and_loaded_whole_wherever_the_shards_are(shards, tmp_path):
    path, names = tmp_path / "shards.npz", [("/x/0.tar", "/x/1.tar"), ("/y/2.tar",)]
    indexes, _ = read_indexes([shards[:2], shards[2:]])
    save_indexes(indexes, path)
    loaded = load_indexes(path, names)
    assert [index.shards for index in loaded] == names
    assert_same(loaded, indexes)
    assert load_indexes(path, [*names, ("/z/3.tar",)]) is None
    whole = path.read_bytes()
    for size in (0, 10, 300):
        path.write_bytes(whole[:size])
        assert load_indexes(path, names) is None
    assert load_indexes(tmp_path / "none.npz", names) is None


def test_what_was_read_before_a_kill_is_not_read_again(shards, tmp_path):
    kept, whole = tmp_path / "kept", read_indexes([shards], texts=60)
    read: list[int] = []

    def killed() -> None:
        read.append(1)
        if len(read) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_indexes([shards], texts=60, folder=kept, advance=killed)
    first, *others = sorted(kept.glob("*.npz"))
    assert len(others) == 2
    first.write_bytes(first.read_bytes()[:100])  # as a power cut may leave it: read anew
    for shard in shards[1:]:
        Path(shard).unlink()
    again = read_indexes([shards], texts=60, folder=kept)
    assert again[1] == whole[1]
    assert_same(again[0], whole[0])


def test_processes_read_their_shares_and_the_first_reads_no_shard_again(shards, tmp_path):
    kept, whole = tmp_path / "kept", read_indexes([shards], texts=60)
    for rank in range(2):
        share = scan_shards([shards], 60, TXT, kept, range(rank, len(shards), 2))
        assert len([*share]) == len(shards[rank::2])
    for shard in shards:
        Path(shard).unlink()
    again = read_indexes([shards], texts=60, folder=kept)
    assert again[1] == whole[1]
    assert_same(again[0], whole[0])


def test_samples_of_one_image_file_are_alike(tmp_path):
    sizes = [5, 600, 5, 0, 70_000, 600, 601]
    files = {f"{n}.jpg": bytes(size) for n, size in enumerate(sizes)} | {"7.txt": b"no image"}
    (index,), _ = read_indexes([(str(write_tar(tmp_path / "0.tar", files)),)])
    assert index.image.dtype == np.uint16
    alike = dict(zip(sizes, index.image.tolist(), strict=False))
    assert index.image.tolist() == [alike[size] for size in [*sizes, 0]]
    assert len(set(alike.values())) == len(alike)


def test_memory_of_the_texts_has_a_bound(tmp_path):
    """Texts are as long as the reader allows, 1,000 characters each."""

    def peak(count: int) -> int:
        files = {f"{n}.{part}": b"a " * 8_192 for n in range(count) for part in ("jpg", "txt")}
        shard = str(write_tar(tmp_path / f"{count}.tar", files))
        tracemalloc.start()
        try:
            texts = read_indexes([(shard,)], texts=count)[1].texts[""]
            assert {len(text) for text in texts} == {1_000}
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)
    assert (peak(400) - peak(200)) / 200 < 4_500  # of 16 KiB each
