"""The index of shards: blocks that can be read by themselves, texts drawn in the same reading."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from alignset.train.data.samples import shard_samples
from alignset.train.data.shard_index import (
    DrawnTexts,
    language_quotas,
    load_indexes,
    read_index,
    save_indexes,
)
from alignset.train.errors import SettingsError, TrainingError
from tests.support.shard_server import shard_server
from tests.support.train_shards import colour_files, write_tar


@pytest.fixture
def shards(tmp_path: Path, monkeypatch) -> list[str]:
    monkeypatch.setattr("alignset.train.data.shard_index.LOCAL_BLOCK", 8)
    monkeypatch.setattr("alignset.train.data.shard_index.REMOTE_BLOCK", 10)
    long = {f"{'k' * 150}{n}.txt": b"long" for n in range(3)}  # headers of their own before theirs
    each = [colour_files(0, 21), {}, colour_files(50, 8) | long]
    return [str(write_tar(tmp_path / f"{i}.tar", files)) for i, files in enumerate(each)]


def test_each_block_is_read_by_itself(shards):
    index, _ = read_index(shards)
    assert index.samples.tolist() == [8, 8, 5, 8, 3]
    assert index.shard.tolist() == [0, 0, 0, 2, 2]
    assert index.total == 32
    for number in (0, 2):
        whole = list(shard_samples(shards[number]))
        blocks = np.flatnonzero(index.shard == number)
        read = [
            sample
            for block in blocks
            for sample, _ in zip(
                shard_samples(shards[number], at=int(index.start[block])),
                range(index.samples[block]),
                strict=False,
            )
        ]
        assert read == whole
    assert index.size.sum() == sum(Path(shards[i]).stat().st_size for i in (0, 2))


def test_what_cannot_be_read_from_its_middle_is_one_block(shards, tmp_path):
    with shard_server(tmp_path) as web:
        urls = [f"{web.url}/0.tar", f"{web.url}/2.tar"]
        assert read_index(urls)[0].samples.tolist() == [10, 10, 1, 10, 1]
        assert len(web.asked) == 2  # once each
        web.ranges = False
        assert read_index(urls)[0].samples.tolist() == [21, 11]
    assert read_index([f"pipe:cat {shards[0]}"])[0].samples.tolist() == [21]


def test_texts_are_drawn_in_the_same_reading(shards):
    files = {f"{n}.{part}": f"text {n}".encode() for n in range(300) for part in ("jpg", "txt")}
    shard = str(write_tar(Path(shards[0]).parent / "many.tar", files))
    texts = read_index([shards[0], shard], texts=60)[1].texts[""]
    assert len(texts) == 21 + 30
    numbers = sorted(int(text.split()[1]) for text in texts[21:])
    assert len(set(numbers)) == 30
    assert numbers[0] < 60 < 240 < numbers[-1]  # of all of it
    assert read_index([shards[0], shard], texts=60)[1].texts[""] == texts
    assert len(read_index([shard], texts=10_000)[1].texts[""]) == 300
    assert read_index([shard])[1] == DrawnTexts({}, {})


def test_languages_give_texts_by_their_share_to_the_power_of_a_half(tmp_path):
    files = {}
    for number, language in enumerate(["en"] * 400 + ["th"] * 16 + ["und"] * 4 + [None] * 4):
        said = {"language": language} if language else {"language": 3}
        files |= {f"{number}.jpg": b"x", f"{number}.txt": f"text {number}".encode()}
        files[f"{number}.json"] = json.dumps(said).encode()
    shards = [str(write_tar(tmp_path / f"{i}.tar", files)) for i in range(2)]
    drawn = read_index(shards, texts=2 * 70, folder=tmp_path)[1]
    assert drawn.counts == {"en": 800, "th": 32, "und": 8, "": 8}
    # 20 : 4 : 2 : 2 of 70 are 50, 10, 5 and 5, and of two languages there are only 4 texts.
    assert {name: len(texts) // 2 for name, texts in drawn.texts.items()} == {
        **{"en": 52, "th": 10, "und": 4, "": 4}
    }
    numbers = [int(text.split()[1]) for text in drawn.texts["en"][:52]]
    assert len(set(numbers)) == 52
    assert min(numbers) < 100 < 300 < max(numbers)
    assert read_index(shards, texts=2 * 70, folder=tmp_path)[1] == drawn  # as it was kept
    assert language_quotas({"a": 10, "b": 10}, 10**6) == {"a": 10, "b": 10}
    assert language_quotas({}, 5) == {}


def test_shards_that_hold_none_or_are_damaged_end_with_a_line(shards):
    with pytest.raises(SettingsError, match=r"no sample in 1 shard, such as .*1\.tar"):
        read_index([shards[1]])
    path = Path(shards[0])
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(TrainingError, match=r"0\.tar is damaged"):
        read_index(shards)


def test_saved_and_loaded_wherever_the_shards_are(shards, tmp_path):
    indexes = [read_index(shards[:2])[0], read_index(shards[2:])[0]]
    save_indexes(indexes, tmp_path / "shards.npz")
    loaded = load_indexes(tmp_path / "shards.npz", [("/x/0.tar", "/x/1.tar"), ("/y/2.tar",)])
    assert [index.shards for index in loaded] == [("/x/0.tar", "/x/1.tar"), ("/y/2.tar",)]
    for index, again in zip(indexes, loaded, strict=True):
        for column in ("shard", "start", "samples", "size", "image"):
            assert np.array_equal(getattr(index, column), getattr(again, column))


def test_an_index_of_other_sets_is_refused(tmp_path):
    np.savez(tmp_path / "shards.npz", np.zeros((4, 1), np.int64))
    with pytest.raises(TrainingError, match="is damaged"):
        load_indexes(tmp_path / "shards.npz", [("/x/0.tar",)])


def test_samples_of_one_image_file_are_alike(tmp_path):
    sizes = [5, 600, 5, 0, 70_000, 600, 601]
    files = {f"{n}.jpg": bytes(size) for n, size in enumerate(sizes)}
    index, _ = read_index([str(write_tar(tmp_path / "0.tar", files | {"7.txt": b"no image"}))])
    assert index.image.dtype == np.uint16
    alike = dict(zip(sizes, index.image.tolist(), strict=False))
    assert index.image.tolist() == [alike[size] for size in [*sizes, 0]]
    assert len(set(alike.values())) == len(alike)


def test_memory_of_the_texts_has_a_bound(tmp_path):
    """Of texts as long as they are read, 1,000 characters each."""

    def peak(count: int) -> int:
        files = {f"{n}.{part}": b"a " * 8_192 for n in range(count) for part in ("jpg", "txt")}
        shard = str(write_tar(tmp_path / f"{count}.tar", files))
        tracemalloc.start()
        try:
            texts = read_index([shard], texts=count)[1].texts[""]
            assert {len(text) for text in texts} == {1_000}
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)
    assert (peak(400) - peak(200)) / 200 < 3_000  # of 16 KiB each


def test_what_was_read_before_a_kill_is_not_read_again(shards, tmp_path):
    kept, whole = tmp_path / "kept", read_index(shards, texts=60)
    read: list[int] = []

    def killed() -> None:
        read.append(1)
        if len(read) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_index(shards, texts=60, folder=kept, advance=killed)
    first, *others = sorted(kept.glob("*.npz"))
    assert len(others) == 2
    first.write_bytes(first.read_bytes()[:100])  # as a power cut may leave it: read anew
    for shard in shards[1:]:
        Path(shard).unlink()
    again = read_index(shards, texts=60, folder=kept)
    assert again[1] == whole[1]
    for column in ("shard", "start", "samples", "size", "image"):
        assert np.array_equal(getattr(again[0], column), getattr(whole[0], column))


def test_a_torn_index_is_one_line(shards, tmp_path):
    path = tmp_path / "shards.npz"
    save_indexes([read_index(shards)[0]], path)
    whole = path.read_bytes()
    for size in (0, 10, 300):
        path.write_bytes(whole[:size])
        with pytest.raises(TrainingError, match=r"damaged .*: remove it, and the same command"):
            load_indexes(path, [tuple(shards)])
