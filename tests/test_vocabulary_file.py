"""The vocabulary's file: written by buckets, checked before it is used, read by anyone."""

import hashlib
import re
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that

from tests.made_batches import run_in_beam
from tests.memory_files import FILES
from tests.ngram_hashes import file_of, ngram_hash
from transforms import vocabulary_file
from transforms.batches import Blocks, batch_of
from transforms.files import open_to_read, write_atomically
from transforms.vocabulary_file import VocabularyFile, WriteVocabulary, check_vocabulary

MEMBERS = np.sort(np.random.default_rng(3).integers(0, 2**64 - 1, 50, np.uint64))
BODY = MEMBERS.astype("<u8").tobytes()


@pytest.fixture(params=["local", "object store"])
def folder(request, tmp_path: Path) -> str:
    if request.param == "object store":
        FILES.clear()
        return "mem://bucket/folder"
    return str(tmp_path / "folder")


def read(path: str) -> bytes:
    with open_to_read(path) as source:
        return source.read()


def names_in(folder: str) -> list[str]:
    return sorted(FILES if folder.startswith("mem:") else map(str, Path(folder).iterdir()))


def u64(*members: int) -> bytes:
    return b"".join(member.to_bytes(8, "little") for member in members)


@pytest.mark.parametrize("by_reference", [False, True])
def test_buckets_in_any_order_make_one_sorted_file(
    folder: str, tmp_path: Path, by_reference: bool
) -> None:
    (tmp_path / "blocks").mkdir()
    blocks = Blocks(str(tmp_path / "blocks") if by_reference else None)
    bucket = (MEMBERS >> np.uint64(60)).astype(int)
    numbers = [15, 3, *(n for n in range(15) if n != 3)]
    batches = [batch_of({"hash": MEMBERS[bucket == number]}) for number in numbers]
    members = list(zip(numbers, blocks.pack(batches), strict=True))

    def check(expected: bytes):
        def checked(written: list[VocabularyFile]) -> None:
            (file,) = written
            assert file[1:] == (len(expected), hashlib.sha256(expected).hexdigest())
            assert file.ngrams == len(expected) // 8
            assert read(file.path) == expected

        return checked

    def build(pipeline: beam.Pipeline) -> None:
        write = WriteVocabulary(f"{folder}/full", inline=not by_reference)
        full = pipeline | beam.Create(members) | "Full" >> write
        write = WriteVocabulary(f"{folder}/empty", inline=not by_reference)
        empty = pipeline | "None" >> beam.Create([]) | "Empty" >> write
        assert_that(full, check(BODY), label="full")
        assert_that(empty, check(b""), label="empty")

    run_in_beam(build)
    run_in_beam(build)  # as a retry does: what readers have open stays as it is
    written = [name for name in names_in(folder) if re.search(r"/full-[0-9a-f]{32}$", name)]
    assert len(written) == 2
    assert [read(path) for path in written] == [BODY, BODY]


def test_inline_buckets_are_joined_from_files_and_not_in_memory(folder: str) -> None:
    members = [(at, batch_of({"hash": MEMBERS[at : at + 1]})) for at in range(3)]
    write = WriteVocabulary(f"{folder}/known", inline=True)
    run_in_beam(lambda pipeline: pipeline | beam.Create(members) | write)
    parts = [
        name for name in names_in(folder) if re.search(r"/known-part-\d{5}-[0-9a-f]{32}$", name)
    ]
    assert [read(part) for part in parts] == [BODY[:8], BODY[8:16], BODY[16:24]]


@pytest.mark.parametrize("members", [[0], [2**64 - 1], [0, 1, 2**63, 2**64 - 1]])
@pytest.mark.parametrize("piece", [8, 16, 24, 1 << 20])
def test_a_sorted_file_is_a_vocabulary(monkeypatch, folder: str, members: list, piece: int) -> None:
    monkeypatch.setattr(vocabulary_file, "_PIECE", piece)
    body, path = u64(*members), f"{folder}/{len(members)}-{members[0]}-{piece}"
    write_atomically(path, lambda sink: sink.write(body))
    found = check_vocabulary(path)
    assert found == VocabularyFile(path, len(body), hashlib.sha256(body).hexdigest())
    assert found.ngrams == len(members)


@pytest.mark.parametrize("piece", [8, 16, 1 << 20])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "it is empty"),
        (b"1234567", "it has 7 bytes, no multiple of 8"),
        (u64(1, 2, 3) + b"1", "it has 25 bytes"),
        (u64(2, 1), "not ascending"),
        (u64(1, 1), "not ascending"),
        (u64(1, 2, 3, 3, 4), "not ascending"),
        (u64(1, 2, 3, 0), "not ascending"),
        (b"a text of 24 bytes, sure", "not ascending"),
    ],
)
def test_another_file_is_none(monkeypatch, tmp_path: Path, piece: int, body: bytes, says: str):
    monkeypatch.setattr(vocabulary_file, "_PIECE", piece)
    (tmp_path / "file").write_bytes(body)
    with pytest.raises(ValueError, match=says):
        check_vocabulary(str(tmp_path / "file"))


def test_the_documents_snippet_looks_up_a_word_and_a_bigram(monkeypatch, capsys, tmp_path: Path):
    page = (Path(__file__).parent.parent / "docs" / "shard_format.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "OUT").mkdir()
    last = max(["red", "dog", "red dog", "é"], key=ngram_hash)  # beyond the end: not found either
    for known in (["dog", "red dog"], ["dog"], ["red dog"], ["red"], [last], ["dog red", "é"]):
        (tmp_path / "OUT" / "vocabulary.u64").write_bytes(file_of(known))
        exec(snippet, {})
        assert capsys.readouterr().out == f"{'dog' in known} {'red dog' in known}\n"
