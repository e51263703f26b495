"""The index of shards: blocks that can be read by themselves, texts drawn in the same reading."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from alignset.train.data.samples import shard_samples
from alignset.train.data.shard_index import DrawnTexts, load_indexes, read_indexes, save_indexes
from alignset.train.errors import SettingsError, TrainingError
from tests.support.shard_server import shard_server
from tests.support.train_shards import colour_files, write_tar

COLUMNS = ("shard", "start", "samples", "size", "image")


@pytest.fixture
def shards(tmp_path: Path, monkeypatch) -> tuple[str, ...]:
    monkeypatch.setattr("alignset.train.data.shard_index.LOCAL_BLOCK", 8)
    monkeypatch.setattr("alignset.train.data.shard_index.REMOTE_BLOCK", 10)
    long = {f"{'k' * 150}{n}.txt": b"long" for n in range(3)}  # headers of their own before theirs
    each = [colour_files(0, 21), {}, colour_files(50, 8) | long]
    return tuple(str(write_tar(tmp_path / f"{i}.tar", files)) for i, files in enumerate(each))


def block_samples(*shards: str) -> list[int]:
    return read_indexes([shards])[0][0].samples.tolist()


def assert_same(ones: list, others: list) -> None:
    for one, other in zip(ones, others, strict=True):
        assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


def test_each_block_is_read_by_itself(shards):
    (index,), _ = read_indexes([shards])
    assert index.samples.tolist() == [8, 8, 5, 8, 3]
    assert index.shard.tolist() == [0, 0, 0, 2, 2]
    assert index.total == 32
    for number in (0, 2):
        read = []
        for block in np.flatnonzero(index.shard == number):
            samples = shard_samples(shards[number], at=int(index.start[block]))
            read += [
                sample for sample, _ in zip(samples, range(index.samples[block]), strict=False)
            ]
        assert read == list(shard_samples(shards[number]))
    assert index.size.sum() == sum(Path(shards[i]).stat().st_size for i in (0, 2))


def test_what_cannot_be_read_from_its_middle_is_one_block(shards, tmp_path):
    with shard_server(tmp_path) as web:
        urls = f"{web.url}/0.tar", f"{web.url}/2.tar"
        assert block_samples(*urls) == [10, 10, 1, 10, 1]
        assert len(web.asked) == 2  # once each
        web.ranges = False
        assert block_samples(*urls) == [21, 11]
    assert block_samples(f"pipe:cat {shards[0]}") == [21]


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
    with pytest.raises(TrainingError, match=r"0\.tar is damaged"):
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


def test_samples_of_one_image_file_are_alike(tmp_path):
    sizes = [5, 600, 5, 0, 70_000, 600, 601]
    files = {f"{n}.jpg": bytes(size) for n, size in enumerate(sizes)} | {"7.txt": b"no image"}
    (index,), _ = read_indexes([(str(write_tar(tmp_path / "0.tar", files)),)])
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
            texts = read_indexes([(shard,)], texts=count)[1].texts[""]
            assert {len(text) for text in texts} == {1_000}
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)
    assert (peak(400) - peak(200)) / 200 < 4_500  # of 16 KiB each
