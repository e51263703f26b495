"""Samples out of tars: grouped as WebDataset groups them, from any one on, damage told."""

import gzip
import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import pytest
import webdataset as wds

from alignset.train.data.samples import (
    LONGEST_IMAGE,
    LONGEST_JSON,
    LONGEST_TEXT,
    json_captions,
    json_object,
    read_pairs,
    shard_samples,
)
from alignset.train.data.shard_streams import ShardStream
from alignset.train.errors import TrainingError
from tests.support.hostile_tars import HOSTILE, header
from tests.support.train_shards import colour_files, colour_shards, write_tar


def contents(shard: str, first: int = 0, **how) -> list[tuple]:
    """Key, image and text of each sample."""
    return [sample[:3] for sample in shard_samples(shard, first, **how)]


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


def test_from_any_sample_on(tmp_path: Path):
    shard = str(colour_shards(tmp_path, shards=1) / "00000.tar")
    for first in (1, 11, 12, 13):
        assert list(shard_samples(shard, first)) == list(shard_samples(shard))[first:]


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
    """As it is to webdataset and to GNU's tar, where these zeros are those of the end."""
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
    a, b, c = shard_samples(shard, caption_field="c")
    assert a[:3] == ("a", b"x", "one\ntwo")
    assert (b.text, c.text) == (None, None)
    assert list(read_pairs([shard], "c")) == [("a", b"x", "one\ntwo", "")]
    scanned = [*shard_samples(shard, images=False, caption_field="c")]
    assert [sample.text for sample in scanned] == ["one\ntwo", None, None]
    assert [(sample.image, sample.image_bytes) for sample in scanned] == [(b"", 1)] * 3


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
