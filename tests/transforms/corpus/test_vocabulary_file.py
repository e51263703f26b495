"""The vocabulary's file: written by buckets, checked before it is used, read by anyone."""

import hashlib
import re
from pathlib import Path

import pytest

from alignset.transforms.corpus import vocabulary_file
from alignset.transforms.corpus.corpus_documents import HashFile
from alignset.transforms.corpus.vocabulary_file import check_vocabulary
from alignset.transforms.storage.files import write_atomically
from tests.support.ngram_hashes import file_of, ngram_hash
from tests.support.root import ROOT


def u64(*members: int) -> bytes:
    return b"".join(member.to_bytes(8, "little") for member in members)


@pytest.mark.parametrize("members", [[0], [2**64 - 1], [0, 1, 2**63, 2**64 - 1]])
@pytest.mark.parametrize("piece", [8, 16, 24, 1 << 20])
def test_a_sorted_file_is_a_vocabulary(monkeypatch, folder: str, members: list, piece: int) -> None:
    monkeypatch.setattr(vocabulary_file, "PIECE", piece)
    body, path = u64(*members), f"{folder}/{len(members)}-{members[0]}-{piece}"
    write_atomically(path, lambda sink: sink.write(body))
    checked = check_vocabulary(path)
    assert checked == HashFile(path, len(body), hashlib.sha256(body).hexdigest())
    assert checked.members == len(members)


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
    monkeypatch.setattr(vocabulary_file, "PIECE", piece)
    (tmp_path / "file").write_bytes(body)
    with pytest.raises(ValueError, match=says):
        check_vocabulary(str(tmp_path / "file"))


def test_the_documents_snippet_looks_up_a_word_and_a_bigram(monkeypatch, capsys, tmp_path: Path):
    page = (ROOT / "docs" / "shard_format.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (snippet,) = [snippet for snippet in snippets if "vocabulary.u64" in snippet]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "OUT").mkdir()
    last = max(["red", "dog", "red dog", "é"], key=ngram_hash)  # beyond the end: not found either
    for ngrams in (["dog", "red dog"], ["dog"], ["red dog"], ["red"], [last], ["dog red", "é"]):
        (tmp_path / "OUT" / "vocabulary.u64").write_bytes(file_of(ngrams))
        exec(snippet, {})
        assert capsys.readouterr().out == f"{'dog' in ngrams} {'red dog' in ngrams}\n"
