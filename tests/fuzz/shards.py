"""Damaged tars of images and texts: through the pipeline's reader and the trainer's, and as
evaluation images. A file and a stream must have the same members."""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from alignset.pipeline.inputs.readers import read_split
from alignset.pipeline.inputs.splits import Split
from alignset.train.data.batches import encode_texts
from alignset.train.data.images import decode_square
from alignset.train.data.samples import LONGEST_TEXT, shard_files, shard_samples
from alignset.train.data.shard_streams import ShardStream
from alignset.train.errors import TrainingError
from alignset.train.model.tokenizer import learn_tokenizer
from alignset.train.presets import TINY
from alignset.transforms.decontamination.index_evaluation_images import describe_part
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from alignset.transforms.images.file_formats import IMAGE_EXTENSIONS, IMAGE_SUFFIXES
from alignset.transforms.rules.given import INPUT_FAULTS
from alignset.transforms.storage.tar_members import BrokenTar, Member, tar_members
from tests.fuzz.mutations import damaged
from tests.fuzz.real_files import real_files
from tests.support.hostile_tars import END, HOSTILE, header, padded, pax, records

warnings.simplefilter("ignore")  # Pillow's, of what is broken
TOKENIZER = learn_tokenizer(
    {"": ["a red heart", "two blue stars"]}, vocabulary_size=60, max_tokens=64
)
NAMES = (
    *(b"a.jpg", b"a.txt", b"a.json", b"b.png", b"b.txt", b"c.webp", b"d/a.jpg", b"d/a.txt", b".x"),
    *(b"e.gif", b"a.b.txt", b"__.json", b"\xe9.jpg", b"\xff.txt", b"f", b"", b"g/", b"A.JPG"),
)
TEXTS = (
    *(b"a red heart", b"", b" ", b"\xff\xfe", b"\0\0", "é\u202e\U0010ffff".encode(), b"." * 700),
    *(b"two stars\na heart", "漢字".encode() * 99, b"x" * (LONGEST_TEXT + 1)),
)
JSONS = (
    *(
        b"{}",
        b"[",
        b"7",
        b'{"url":"http://a.org/1","caption":"a red heart"}',
        b'{"url":1}',
        b"\xff",
    ),
    *(b'{"a":' * 2000, b"[" * 5000, b'{"url":"\\ud800","caption":"\\u0000"}', b"9" * 5000),
)


def piece(random: Random) -> bytes:
    """A member with its headers, sound or not."""
    if random.random() < 0.4:
        return random.choice(list(HOSTILE.values()))[0].removesuffix(END)[: 1 << 15]
    name = random.choice(NAMES)
    bodies = {b"txt": TEXTS, b"json": JSONS}.get(name.rpartition(b".")[2])
    kind = random.choice(("jpeg", "png", "webp", "avif", "gif", "bmp", "tiff"))
    body = random.choice(bodies) if bodies else random.choice(real_files()[kind])[1]
    body = damaged(random, body) if random.random() < 0.3 else body
    return header(name, len(body)) + padded(body)


def made_tar(random: Random) -> bytes:
    tar = b"".join(piece(random) for _ in range(random.randrange(12)))
    tar += random.choice([END] * 9 + [b"", END + piece(random) + END])
    return damaged(random, tar) if random.random() < 0.4 else tar


def seen_by(members: Iterator[Any]) -> tuple[list[Any], bool]:
    """What a reader gives, and whether it ends well."""
    read: list[Any] = []
    try:
        for member in members:
            read.append(member)
    except (BrokenTar, TrainingError):
        return read, False
    return read, True


def unless_broken(read: Callable[[], Any], path: Path) -> Any:
    """What is read, or None where the one line is said that names the file."""
    try:
        return read()
    except RuntimeError as error:
        if f"cannot read {path} to its end" not in str(error):
            raise
        return None


def check_members(tar: bytes, path: Path) -> list[Member]:
    """Curation and training see the same plain files; training also those of a further tar."""
    members, well = seen_by(tar_members(io.BytesIO(tar)))
    for member in members:
        assert 0 < member.at <= len(tar) + 512 * 2
        assert member.at % 512 == 0
    with ShardStream(str(path)) as stream:
        of_trainer = shard_files(stream)
        theirs, _ = seen_by((name, stream.at, size) for name, _, size, *_ in of_trainer)
    ours = []
    for name, at, size, plain, *_ in members:
        if plain:
            shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            ours.append((shown, at, size))
    assert ours == theirs[: len(ours)]
    assert well or not tar[:512].strip(b"\0") or len(theirs) == len(ours)
    return members


def is_image(name: str) -> bool:
    return name.rpartition("/")[2].partition(".")[2].lower() in IMAGE_EXTENSIONS


def check_reader(tar: bytes, path: Path) -> None:
    """The rows, or one line; images lie where rows say that they do."""
    split = Split(str(path), "webdataset")
    by_size = [
        [row for batch in read_split(split, n, skip_broken=True) for row in batch.to_pylist()]
        for n in (1, 1000)
    ]
    assert by_size[0] == by_size[1]
    faults = [row["malformed"] for row in by_size[0] if row.get("malformed")]
    batches = unless_broken(lambda: list(read_split(split, 3)), path)
    assert len(faults) == (batches is None)
    assert {*faults} <= {*INPUT_FAULTS}
    if batches is None:
        return
    members = [*tar_members(io.BytesIO(tar))]
    images = {m.at: m.size for m in members if m.plain and is_image(m.name)}
    for row in (row for batch in batches for row in batch.to_pylist()):
        at = row["source_at"]  # -1: a sparse file or a link
        assert at in (0, -1) or images[at] == row["source_size"]
        assert row["caption"] is None or isinstance(row["caption"], bytes)
    keys = [
        m.name.rpartition("/")[::2]
        for m in members
        if (m.plain or is_image(m.name)) and not m.name.rpartition("/")[2].startswith("__")
    ]
    stems = [(folder, name.partition(".")[0]) for folder, name in keys]
    samples = sum(a != b for a, b in pairwise(stems)) + bool(stems)
    assert sum(len(batch) for batch in batches) == samples


def check_trainer(path: Path) -> None:
    """Samples that can be learned from, or are skipped; a tar that is damaged is named."""
    samples, _ = seen_by(shard_samples(str(path)))
    for sample in samples:
        assert sample.image is None or len(sample.image) <= path.stat().st_size
        if sample.text:
            assert len(sample.text) <= LONGEST_TEXT
            (ids, _), *_ = encode_texts([sample.text], TOKENIZER, TINY).buckets
            assert ids.shape[1] <= TINY.max_tokens
        if sample.image is not None:
            try:
                assert decode_square(sample.image, 16).shape == (16, 16, 3)
            except AssertionError:
                raise
            except Exception:  # as `train/data/batches.py` takes it
                continue
    for first in range(1, len(samples), 3):
        later, _ = seen_by(shard_samples(str(path), first))
        assert [sample[:3] for sample in later] == [sample[:3] for sample in samples[first:]]


def check_evaluation(members: list[Member], path: Path) -> None:
    part = (EvaluationFile("a", str(path)),)
    folder = str(path.parent)
    described = unless_broken(lambda: describe_part(part, folder, folder), path)
    if described is not None:
        images = sum(member.name.lower().endswith(IMAGE_SUFFIXES) for member in members)
        assert len(described.rows) + len(described.unreadable) == images


def written(tar: bytes, read: Callable[[Path], object]) -> object:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.tar")
        path.write_bytes(tar)
        try:
            return read(path)
        except (RuntimeError, TrainingError):
            return None


def read_by_both(tar: bytes) -> None:
    """As the pipeline reads a shard, and as the trainer does."""
    written(tar, lambda path: list(read_split(Split(str(path), "webdataset"), 1000)))
    written(tar, lambda path: list(shard_samples(str(path))))


# By name a function of bytes, and the tokens of which patterns are made (`growth.py`).
GROWTH: dict[str, tuple[Callable[[bytes], object], Sequence[bytes]]] = {
    "headers": (
        lambda body: read_by_both(body + END),
        (
            *(header(b"a.txt", 0), header(b"b.jpg", 0), header(b"a", 1, b"5"), bytes(512)),
            *(header(b"l", 2, b"L") + padded(b"n\0"), pax(records((b"path", b"p.txt")))),
            *(header(b"a.jpg", 0, b"S", {482: b"\1"}), bytes(504) + b"\1" + bytes(7)),
            *(pax(b"4 =\n" * 100), header(b"a.json", 2) + padded(b"{}")),
        ),
    ),
    "records": (
        lambda body: read_by_both(pax(body) + header(b"a.txt", 0) + END),
        (b"4 =\n", b"12 path=abc\n", b"9 size=1\n", b"1", b"0", b" ", b"=", b"\n", b"99999999 "),
    ),
    "JSON": (
        lambda body: read_by_both(header(b"a.json", len(body)) + padded(body) + END),
        b'[|]|{|{"a":|"|\\|\\u0000|9|,|[],|\xff|{"url":"'.split(b"|"),
    ),
    "texts": (
        lambda body: encode_texts(
            [body[:LONGEST_TEXT].decode("utf-8", "replace")], TOKENIZER, TINY
        ),
        (b"a", b" ", b".", b"\0", b"\xff", "\u0f73".encode(), "\u0301".encode(), "漢".encode()),
    ),
}
