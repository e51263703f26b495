"""The order of samples, batches of them in their shares, and what the model is fed."""

import itertools
import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alignset.train.data.batches import Batch, TrainingData, check_skipped, encode_texts, prefetch
from alignset.train.data.find_shards import ShardSet, find_sets
from alignset.train.data.images import random_crop
from alignset.train.data.order import Cursor, Order, Position, read_in_order, resume_position
from alignset.train.data.samples import LONGEST_IMAGE, shard_samples
from alignset.train.data.shard_index import ShardIndex, read_indexes
from alignset.train.errors import TrainingError
from alignset.train.presets import TINY
from alignset.train.settings import Settings
from tests.support.closeness import close, summed_terms
from tests.support.shard_server import shard_server
from tests.support.small_training import SETTINGS as SMALL_SETTINGS
from tests.support.small_training import TEXTS, small_inputs, small_model
from tests.support.train_shards import colour_files, encoded, write_tar

pytestmark = pytest.mark.numeric


START = Cursor()
COUNTS = [[7], [1], [1, 1, 40, 2, 0], [5] * 9, [4_000, 3, 0, 700]]


def index_of(counts: list[int], *, block: int = 64, image_bytes: int = 1_000) -> ShardIndex:
    rows = [
        (shard, first, min(block, count - first))
        for shard, count in enumerate(counts)
        for first in range(0, count, block)
    ]
    shard, start, samples = np.array(rows, np.int64).T
    images = np.random.default_rng(sum(counts)).integers(0, 1 << 16, sum(counts), np.uint16)
    names = tuple(f"{i}.tar" for i in range(len(counts)))
    return ShardIndex(names, shard, start, samples, samples * image_bytes, images)


def samples_of(order: Order, cursor: Cursor = START):
    """The cursor behind each sample, and its number among all of the index."""
    for window in order.windows(cursor):
        number = order.index.block_starts[window.block] + window.number
        first = cursor.taken - window.begins if cursor.epoch == window.epoch else 0
        for done in range(max(0, first), len(window.order)):
            yield Cursor(window.epoch, window.begins + done + 1), int(number[window.order[done]])
        cursor = Cursor(window.epoch, window.begins + len(window.order))


@pytest.mark.parametrize("processes", [1, 3, 16])
@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_an_epoch_has_each_sample_once_and_no_batch_one_twice(counts: list[int], processes: int):
    index = index_of(counts)
    epochs = 2 if index.total > 1_000 else 5
    length = -(-epochs * index.total // processes)
    streams = [
        [
            (cursor.epoch, sample)
            for cursor, sample in islice(samples_of(Order(index, 3, 500, rank, processes)), length)
        ]
        for rank in range(processes)
    ]
    for epoch in range(epochs - 1):
        had = Counter(who for stream in streams for at, who in stream if at == epoch)
        assert had == dict.fromkeys(range(index.total), 1)
    for share in (1, 7):  # so many of each process are a batch; it has one twice of two epochs
        for first in range(0, length, share):
            batch = [who for stream in streams for who in stream[first : first + share]]
            assert len(set(batch)) == len(batch)
    # None is ahead of another: epochs end within one sample.
    if index.total >= processes:
        ends = [next(i for i, (epoch, _) in enumerate(stream) if epoch) for stream in streams]
        assert max(ends) - min(ends) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_resumes_from_any_sample_with_as_many(seed: int):
    rng = random.Random(seed)
    counts = [rng.choice([0, 1, 5, 90, 400]) for _ in range(6)] + [1]
    processes = rng.randint(1, 5)
    order = Order(
        index_of(counts, block=32),
        seed,
        window_samples=rng.choice([1, 10, 100, 1_000]),
        rank=rng.randrange(processes),
        processes=processes,
    )
    whole = list(islice(samples_of(order), 900))
    for at in rng.sample(range(800), 40):
        assert list(islice(samples_of(order, whole[at][0]), 50)) == whole[at + 1 : at + 51]


@pytest.mark.parametrize("processes", [1, 3, 4])
def test_others_begin_the_next_epoch(processes: int):
    """Two processes stopped within an epoch, one of them behind its end."""
    index = index_of([90, 7, 400], block=32)
    stopped = [Position((Cursor(3, 200), Cursor(0, 9)), 40), Position((Cursor(4, 1), Cursor()), 42)]
    had: Counter[int] = Counter()
    for rank in range(processes):
        position = resume_position(rank, stopped, processes)
        assert position == Position((Cursor(5), Cursor(1)))
        stream = samples_of(Order(index, 1, 50, rank, processes), position.cursors[0])
        had.update(who for _, who in takewhile(lambda one: one[0].epoch == 5, stream))
    assert had == dict.fromkeys(range(497), 1)
    assert [resume_position(rank, stopped, 2) for rank in range(2)] == stopped


def test_orders_follow_from_seed_and_epoch_and_windows_mix_many_shards():
    index = index_of([30] * 4)
    firsts = {
        tuple(who for _, who in islice(samples_of(Order(index, seed, 40), Cursor(epoch)), 120))
        for seed in (1, 2, 1)
        for epoch in (0, 1, 2)
    }
    assert len(firsts) == 6
    order = Order(index_of([10_000] * 100), 0, 10_000, 0, 8)
    window = next(order.windows(Cursor()))
    assert len(window.order) == 10_000
    for read in (window.block, window.block[window.order[:2_048]]):
        assert len(set(order.index.shard[read].tolist())) > 70  # of 157 blocks


@pytest.mark.parametrize("processes", [1, 3])
def test_samples_of_one_image_are_far_apart(processes: int):
    """Two samples of one image are half a window apart, where windows have 1,000 samples."""
    rng = np.random.default_rng(4)
    image = np.concatenate([np.arange(8_000), np.repeat(np.arange(8_000, 9_000), 2), [9_999] * 9])
    index = replace(index_of([len(image)]), image=rng.permutation(image).astype(np.uint16))
    for rank in range(processes):
        windows = Order(index, 1, 1_000, rank, processes).windows(Cursor())
        for window in takewhile(lambda window: window.epoch == 0, windows):
            assert sorted(window.order.tolist()) == list(range(len(window.order)))
            images = index.image[(index.block_starts[window.block] + window.number)[window.order]]
            for value, count in Counter(images.tolist()).items():
                if count > 1:
                    apart = np.diff(np.flatnonzero(images == value)).min()
                    assert apart > 0.8 * len(window.order) / count, (value, count, apart)


def test_windows_of_large_images_have_fewer():
    index = index_of([64] * 8)
    sizes = np.repeat([1 << 19, 1 << 22], 4) * 64  # bytes, of the blocks
    order = Order(replace(index, size=sizes), 0, 100)
    windows = [*takewhile(lambda window: window.epoch == 0, order.windows(Cursor()))]
    for window in windows:
        assert sizes[window.block].sum() / 64 <= (100 + 4) << 20
        assert 1 <= len(window.order) <= 100
    assert sum(len(window.order) for window in windows) == 512


# --- Real shards ----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch) -> None:
    monkeypatch.setattr("alignset.train.data.shard_index.LOCAL_BLOCK", 8)
    monkeypatch.setattr("alignset.train.data.shard_index.REMOTE_BLOCK", 8)


@pytest.fixture
def opened(monkeypatch) -> list[tuple[str, int]]:
    """Each opening of a shard, with the first sample that is read there."""
    openings: list[tuple[str, int]] = []

    def opening(shard, first, **how):
        openings.append((shard, first))
        return shard_samples(shard, first, **how)

    monkeypatch.setattr("alignset.train.data.order.shard_samples", opening)
    return openings


def shards_of(folder: Path, counts: list[int]) -> tuple[str, ...]:
    """A shard of so many samples for each count; keys say shard and number."""
    shards = []
    for shard, count in enumerate(counts):
        files = {f"{shard}-{n:03d}.txt": b"a text" for n in range(count)}
        shards.append(str(write_tar(folder / f"{shard}.tar", files)))
    return tuple(shards)


def order_of(shards: tuple[str, ...], window: int, rank: int = 0, processes: int = 1) -> Order:
    return Order(read_indexes([shards])[0][0], 3, window, rank, processes)


@pytest.mark.parametrize("how", ["files", "ranges", "no ranges", "command"])
def test_shards_anywhere_give_each_sample_once_and_resume(tmp_path, opened, how):
    """Shards that can't be read from their middle work too, and none is read again per window."""
    shards = shards_of(tmp_path, [30, 17])
    with shard_server(tmp_path) as web:
        web.ranges = how == "ranges"
        if how == "command":
            shards = tuple(f"pipe:cat {shard}" for shard in shards)
        elif how != "files":
            shards = tuple(f"{web.url}/{i}.tar" for i in range(2))
        keys = []
        for rank in range(2):
            stream = read_in_order(order_of(shards, 5, rank, 2), Cursor())
            read = list(takewhile(lambda one: one[0].epoch == 0, stream))
            keys += [sample.key for _, sample in read]
        assert sorted(keys) == sorted(
            f"{s}-{n:03d}" for s, count in ((0, 30), (1, 17)) for n in range(count)
        )
        assert len(opened) <= {"files": 15, "ranges": 15 + 2 * 4}.get(how, 7)  # four are ahead
        for at in (0, 7, 12):
            resumed = read_in_order(order_of(shards, 5, 1, 2), read[at][0])
            assert list(islice(resumed, 8)) == read[at + 1 : at + 9]


def test_blocks_of_a_store_are_read_at_once(tmp_path, monkeypatch):
    """In the same order; the first four wait until all of them are asked for."""
    shards_of(tmp_path, [30] * 6)
    monkeypatch.setattr("alignset.train.data.shard_index.REMOTE_BLOCK", 10)
    together, asked = threading.Barrier(4), []

    def waiting(shard, first, **how):
        asked.append(shard)
        if len(asked) <= 4:
            together.wait(timeout=60)
        return shard_samples(shard, first, **how)

    with shard_server(tmp_path) as web:
        web.ranges = True
        order = order_of(tuple(f"{web.url}/{i}.tar" for i in range(6)), 40)
        expected = [sample for _, sample in islice(read_in_order(order, Cursor()), 300)]
        monkeypatch.setattr("alignset.train.data.order.shard_samples", waiting)
        stream = read_in_order(order, Cursor())
        assert [sample for _, sample in islice(stream, 300)] == expected
        stream.close()


def test_resuming_opens_no_shard_before_the_window(tmp_path, opened):
    order = order_of(shards_of(tmp_path, [8] * 8), 8)
    cursor, _ = list(islice(read_in_order(order, Cursor()), 50))[-1]
    whole = opened.copy()
    opened.clear()
    next(read_in_order(order, cursor))
    assert opened == whole[6 : 6 + len(opened)]
    assert len(opened) == 2  # its window, and the first sample of the next


def test_no_more_than_a_window_is_held(tmp_path, monkeypatch):
    order = order_of(shards_of(tmp_path, [50, 50]), 20)
    read = 0

    def counted(shard, first, **how):
        nonlocal read
        for sample in shard_samples(shard, first, **how):
            read += 1
            yield sample

    monkeypatch.setattr("alignset.train.data.order.shard_samples", counted)
    before = 21
    for given, _ in enumerate(islice(read_in_order(order, Cursor()), 250)):
        assert read - given <= 21
        assert read - before <= 1  # nor does any sample wait for many others
        before = read
    assert read >= 250


def test_a_shard_that_has_become_another_is_named(tmp_path):
    order = order_of(shards_of(tmp_path, [20, 20]), 10)
    shards_of(tmp_path, [20, 13])
    with pytest.raises(TrainingError, match=r"1\.tar has other samples than when the run began"):
        list(islice(read_in_order(order, Cursor()), 200))


SETTINGS = replace(
    TINY, batch_size=4, resize_px=20, crop_px=16, shuffle_samples=8, horizontal_flip=True
)


def batches(
    sets: list[ShardSet],
    count: int,
    position: Position | None = None,
    settings: Settings = SETTINGS,
    rank: int = 0,
    processes: int = 1,
) -> list[Batch]:
    indexes, _ = read_indexes([shard_set.shards for shard_set in sets])
    data = TrainingData(sets, indexes, settings, rank, processes)
    return list(itertools.islice(data.batches(position or Position()), count))


def assert_equal(ones: list[Batch], others: list[Batch]) -> None:
    for a, b in zip(ones, others, strict=True):
        assert (a.texts, a.position) == (b.texts, b.position)
        assert np.array_equal(a.pixels, b.pixels)


def noise_files(first: int, count: int) -> dict[str, bytes]:
    """Pairs of images of which no two parts are alike."""
    files: dict[str, bytes] = {}
    for n in range(first, first + count):
        noise = np.random.default_rng(n).integers(0, 256, (30, 26, 3)).astype(np.uint8)
        files |= {f"{n}.png": encoded(Image.fromarray(noise)), f"{n}.txt": f"text {n}".encode()}
    return files


@pytest.fixture
def two_sets(tmp_path: Path) -> list[ShardSet]:
    for shard in range(3):
        write_tar(tmp_path / f"a/{shard}.tar", noise_files(12 * shard, 12))
    named = noise_files(100, 10)
    write_tar(tmp_path / "b.tar", {n: b"b" if n[-3:] == "txt" else d for n, d in named.items()})
    return find_sets(f"{tmp_path}/a::3,{tmp_path}/b.tar::1")


def test_resumes_from_any_batch_with_the_same_batches_by_any_threads(two_sets):
    whole = batches(two_sets, 47)
    for taken, settings in (
        (1, replace(SETTINGS, decode_threads=1)),
        (6, replace(SETTINGS, decode_threads=4, cached_images=100)),
        (40, SETTINGS),
    ):
        position = whole[taken - 1].position
        assert_equal(batches(two_sets, 7, position, settings), whole[taken : taken + 7])


def test_each_epoch_crops_anew(tmp_path: Path):
    sets = find_sets(str(write_tar(tmp_path / "0.tar", noise_files(0, 24))))
    crops: dict[str, list[bytes]] = {}
    for batch in batches(sets, 12):  # two epochs
        for text, pixels in zip(batch.texts, batch.pixels, strict=True):
            crops.setdefault(text, []).append(pixels.tobytes())
    assert {len(both) for both in crops.values()} == {2}
    assert sum(first != second for first, second in crops.values()) > 18  # of 50 crops one is alike


@pytest.mark.parametrize("processes", [1, 2])
def test_each_set_gives_its_share_of_every_few_batches(two_sets, processes: int):
    for rank in range(processes):
        mixed = batches(two_sets, 60, rank=rank, processes=processes)
        texts = [text == "b" for batch in mixed for text in batch.texts]
        for i in range(0, len(texts), 40 // processes):
            assert abs(sum(texts[i : i + 40 // processes]) - 10 / processes) <= 2
        epochs = [{cursor.epoch for cursor in batch.position.cursors} for batch in mixed]
        assert [batch.position.epoch for batch in mixed] == [min(of_sets) for of_sets in epochs]
        assert max(map(len, epochs)) == 2  # the small set is an epoch ahead at times


def test_bad_and_hostile_samples_are_skipped_and_counted(tmp_path: Path):
    """Whatever an image or a text is made of; the good ones come as if they were alone."""
    files = colour_files(0, 8)
    picture = files["0000000000000000.png"]
    bad = {
        "large.jpg": bytes(LONGEST_IMAGE + 1),
        "gif.jpg": b"GIF89a" + bytes(1 << 23),
        "exif.jpg": b"\xff\xd8" + b"\xff\xe1\0\x09Exif\0\0a" * 1000,
        "zeros.png": bytes(100),
        "cut.png": picture[:-30],
        "eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "noisy.webp": b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 100,
    }
    mixed = files | bad | {f"{name.partition('.')[0]}.txt": b"a text" for name in bad}
    mixed = dict(sorted(mixed.items(), key=lambda file: file[0].partition(".")[0]))
    # The image of `alone` comes after all others, and the text of `mute` is blank.
    mixed = {"alone.txt": b"a text"} | mixed | {"mute.png": picture, "mute.txt": b" \n"}
    sets = find_sets(str(write_tar(tmp_path / "0.tar", mixed | {"alone.png": picture})))
    settings = replace(SETTINGS, max_skipped_share=0.5)
    made = batches(sets, 5, settings=settings)
    texts = Counter(text for batch in made[:4] for text in batch.texts)
    assert texts == {files[name].decode(): 2 for name in files if name.endswith("txt")}
    counts = dict(made[3].position.reasons)
    # The range depends on where samples of the second epoch lie.
    for reason, least, most in (
        ("too_large", 2, 4),
        ("undecodable", 4, 10),
        ("no_image", 1, 2),
        ("no_text", 2, 4),
    ):
        assert least <= counts.pop(reason) <= most, reason
    assert not counts
    assert_equal(batches(sets, 1, made[3].position, settings), made[4:])


def test_as_few_samples_are_read_ahead_as_their_bytes_allow(tmp_path: Path, monkeypatch):
    """All of a batch of large ones would be held until they are decoded."""
    files = colour_files(0, 40)
    for name in [name for name in files if name.endswith("png")]:
        files[name] += bytes(1 << 16)
    sets = find_sets(str(write_tar(tmp_path / "0.tar", files)))
    settings = replace(SETTINGS, batch_size=32, decode_threads=1)
    expected = batches(sets, 2, settings=settings)
    monkeypatch.setattr("alignset.train.data.batches.MAX_BYTES_AHEAD", 4 << 16)
    held, lock = [0], threading.Lock()
    submitted = ThreadPoolExecutor.submit

    def submit(self, function, *args):
        with lock:
            held.append(held[-1] + 1)
        return submitted(self, function, *args)

    def counted(*image, **how):
        cropped = random_crop(*image, **how)
        with lock:
            held.append(held[-1] - 1)
        return cropped

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    monkeypatch.setattr("alignset.train.data.batches.random_crop", counted)
    assert_equal(batches(sets, 2, settings=settings), expected)
    assert max(held) <= 6


def test_reading_goes_on_while_nobody_asks(two_sets, monkeypatch):
    """As while gradients are computed; the first micro-batch waits for no whole batch."""
    settings = replace(SETTINGS, batch_size=8, micro_batch_size=2, shuffle_samples=4)
    permits, read = threading.Semaphore(12), list[str]()

    def permitted(shard, first, **how):
        for sample in shard_samples(shard, first, **how):
            assert permits.acquire(timeout=20), "more was read than a micro-batch needs"
            read.append(sample.key)
            yield sample

    monkeypatch.setattr("alignset.train.data.order.shard_samples", permitted)
    indexes = read_indexes([shard_set.shards for shard_set in two_sets])[0]
    stream = TrainingData(two_sets, indexes, settings).batches(Position())
    next(stream)
    permits.release(100)
    while len(read) < 14:
        time.sleep(0.01)
    stream.close()
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())


def test_one_process_of_many_may_have_more_bad_samples_than_the_run():
    """Bad samples may lie in one shard; the sum is judged at each report."""
    settings = replace(SETTINGS, max_skipped_share=0.01)
    check_skipped({"no_text": 10_000}, 200_000, settings, processes=64)
    check_skipped({"no_text": 500}, 1_000, settings, processes=64)
    with pytest.raises(TrainingError, match=r"501 of 1000 samples .*\(501 no_text\): "):
        check_skipped({"no_text": 501}, 1_000, settings, processes=64)
    with pytest.raises(TrainingError, match="81 of 4000"):
        check_skipped({"no_text": 81}, 4_000, settings, processes=2)
    with pytest.raises(TrainingError, match="the last is k"):
        check_skipped({"no_text": 11}, 900, settings, "k")


def test_too_many_bad_samples_end_with_a_line(tmp_path: Path):
    files = colour_files(0, 9) | {"bad.jpg": b"x", "bad.txt": b"y"}
    sets = find_sets(str(write_tar(tmp_path / "0.tar", files)))
    with pytest.raises(TrainingError) as raised:
        batches(sets, 10_000, settings=replace(SETTINGS, max_skipped_share=0.02))
    assert str(raised.value) == (
        "21 of 201 samples cannot be used (21 undecodable; the last is bad): look at the shards, "
        "where an image and its text must follow each other, or raise max_skipped_share; it is 0.02"
    ).replace("201", str(raised.value).split()[2])
    batches(sets, 500, settings=replace(SETTINGS, max_skipped_share=0.11))
    nothing = find_sets(str(write_tar(tmp_path / "1.tar", {"a.jpg": b"x", "a.txt": b"y"})))
    with pytest.raises(TrainingError, match=r"11 of 11 samples cannot be used \(11 undecodable"):
        batches(nothing, 1)


def test_an_epoch_draws_one_of_the_texts_of_a_sample_by_their_weights(tmp_path: Path):
    files = colour_files(0, 256)
    for name in [name for name in files if name.endswith("txt")]:
        files[name.replace("txt", "json")] = b'{"recaption": ["new", "newer"]}'
        files[name] = b"old"
    bare = next(name for name in files if name.endswith("json"))
    files[bare] = b"{}"
    sets = find_sets(str(write_tar(tmp_path / "0.tar", files)))
    settings = replace(SETTINGS, batch_size=256, captions="txt:1,json.recaption:3")
    epochs = [batch.texts for batch in batches(sets, 20, settings=settings)]
    counts = Counter(text for texts in epochs for text in texts)
    assert counts.keys() == {"old", "new", "newer"}
    assert counts["old"] / counts.total() == pytest.approx(0.25, abs=0.04)  # 6 standard deviations
    assert counts["new"] == pytest.approx(counts["newer"], rel=0.2)
    assert epochs[0] != epochs[1]
    assert epochs == [batch.texts for batch in batches(sets, 20, settings=settings)]


@pytest.mark.parametrize("where", ["lines", "json"])
def test_an_epoch_takes_one_caption_and_the_next_the_next(tmp_path: Path, where: str):
    files = {}
    for name, data in colour_files(0, 8).items():
        captions = [f"{name[:16]}, line {i}" for i in range(3)]
        if name.endswith("png"):
            files[name] = data
        elif name.endswith("txt") and where == "lines":
            files[name] = "\n\n".join(captions).encode()
        elif name.endswith("txt"):
            files[name.replace("txt", "json")] = json.dumps({"captions": captions}).encode()
    sets = find_sets(str(write_tar(tmp_path / "captions.tar", files)))
    chosen = {"caption_lines": True} if where == "lines" else {"caption_field": "captions"}
    settings = replace(SETTINGS, batch_size=8, **chosen)
    epochs = [batch.texts for batch in batches(sets, 6, settings=settings)]
    for three in (epochs[:3], epochs[3:]):
        captions = Counter(text for texts in three for text in texts)
        assert len(captions) == 24  # each of the 3 lines of the 8 samples
        assert set(captions.values()) == {1}
    if where == "lines":
        whole = batches(sets, 1)[0].texts[0]
        assert whole.count("\n") == 4  # without the flag, a text is what it is


def test_buckets_padding_and_cutting_change_no_embedding(tokenizer):
    cut = encode_texts(["star " * 99, "star"], tokenizer, SMALL_SETTINGS)
    assert [ids.shape[1] for ids, _ in cut.buckets] == [3, SMALL_SETTINGS.max_tokens]
    model = small_model(vocabulary_size=len(tokenizer)).eval()
    one_bucket = replace(SMALL_SETTINGS, text_buckets=1)
    with torch.no_grad():
        together = model.embed_texts(small_inputs(tokenizer).texts)
        padded = model.embed_texts(small_inputs(tokenizer, settings=one_bucket).texts)
        alone = torch.cat(
            [model.embed_texts(encode_texts([t], tokenizer, one_bucket)) for t in TEXTS]
        )
    terms = summed_terms(model.align.text_model)
    assert close(together, alone, terms=terms)
    assert close(padded, alone, terms=terms)


def test_items_come_in_order_one_ahead_and_an_error_in_its_place():
    made, closed = [], threading.Event()

    def items():
        try:
            for i in range(100):
                made.append(i)
                yield i
            raise ValueError("the last")
        finally:
            closed.set()

    numbers = prefetch(items(), lambda i: 10 * i)
    assert next(numbers) == 0
    time.sleep(0.1)
    assert len(made) == 2
    numbers.close()
    assert closed.is_set()
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())
    numbers = prefetch(items(), int)
    assert [next(numbers) for _ in range(100)] == [*range(100)]
    with pytest.raises(ValueError, match="the last"):
        next(numbers)
    assert list(prefetch((i for i in range(3)), int)) == [0, 1, 2]
