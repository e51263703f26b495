"""A vocabulary from run to run: written beside one output, it filters another crawl."""

from collections import Counter
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.demo import text_rules
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.find_inputs import find_vocabulary
from tests.support.command import digests, fates, funnel, kept, manifest, run, succeed
from tests.support.made_batches import count_ngrams, ngram_hash, vocabulary_bytes
from tests.support.memory_files import FILES

SIZE = 90
FLAGS = ("--text_only", "--language=")
WORDS = [*("red", "Dog", "cat.", "é", "tree", "sky", "(old)", "zebra", "7", "STRASSE", "a&amp;b")]


class Crawl(NamedTuple):
    """A corpus, and the file that it is in."""

    rows: list[tuple[str, str]]
    source: Path


def crawl(path: Path, seed: int, size: int, words: list[str]) -> Crawl:
    random, weights = Random(seed), range(2 * len(words), 0, -2)
    texts = [" ".join(random.choices(words, weights, k=random.randint(3, 6))) for _ in range(size)]
    rows = [(f"http://a.example/{seed}/{n}", text) for n, text in enumerate(texts)]
    columns = {"url": [url for url, _ in rows], "caption": texts}
    pq.write_table(pa.table(columns), path, row_group_size=100)
    return Crawl(rows, path)


class Old(NamedTuple):
    """A run that wrote its vocabulary, and which it has to be."""

    crawl: Crawl
    output: Path
    known: set[str]

    @property
    def file(self) -> Path:
        return self.output / "vocabulary.u64"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Old:
    folder = tmp_path_factory.mktemp("old")
    made = crawl(folder / "pairs.parquet", 1, 300, WORDS)
    succeed(made.source, folder / "set", *FLAGS, f"--vocabulary_size={SIZE}")
    counts = count_ngrams(text for _, text in made.rows)
    assert len(counts) > SIZE
    return Old(made, folder / "set", text_rules.vocabulary(counts, SIZE, ngram_hash))


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Crawl:
    path = tmp_path_factory.mktemp("new") / "new.parquet"
    return crawl(path, 2, 300, [*WORDS[3:], "blue", *WORDS[:3]])


def expected(rows: list[tuple[str, str]], vocabulary: set[str]) -> set[tuple[str, str]]:
    """What a plain implementation keeps, and with which text."""
    outcomes = text_rules.judge(rows, text_rules.Numbers())
    pairs = [(url, text_rules.kept_text(text)) for url, text in rows]
    return {
        (url, text)
        for url, text in pairs
        if outcomes[(url, text_rules.text_identity(text))][None]
        and vocabulary.issuperset(text_rules.ngrams(text_rules.text_identity(text)))
    }


def kept_pairs(output: Path) -> set[tuple[str, str]]:
    return {(fate.url, fate.caption) for fate in kept(output)}


def test_a_run_leaves_its_vocabulary(old: Old):
    body = old.file.read_bytes()
    assert body == vocabulary_bytes(old.known)
    assert kept_pairs(old.output) == expected(old.crawl.rows, old.known)
    said = manifest(old.output)["vocabulary"]
    file = said.pop("file")
    assert file.pop("hashes").startswith("a word: XXH64 (seed 0)")
    assert file == {"path": "vocabulary.u64", "bytes": 8 * SIZE, "sha256": sha256(body).hexdigest()}
    counts = count_ngrams(text for _, text in old.crawl.rows)
    assert (said["ngrams"], said["vocabulary"]) == (len(counts), SIZE)
    assert said["occurrences"] == counts.total()
    assert said["by_count"][0]["ngrams"] == list(counts.values()).count(1)
    assert funnel(old.output)["vocabulary"] == said


def test_where_nothing_is_cut_it_has_all(old: Old, tmp_path: Path):
    ended = succeed(old.crawl.source, tmp_path / "set", *FLAGS)
    counts = count_ngrams(text for _, text in old.crawl.rows)
    assert (tmp_path / "set" / "vocabulary.u64").read_bytes() == vocabulary_bytes(counts)
    assert funnel(tmp_path / "set")["vocabulary"]["cut_off_count"] == 0
    assert ended.out.splitlines()[-1].startswith(f"vocabulary: {len(counts):,} of {len(counts):,}")


def test_another_crawl_is_filtered_with_it(old: Old, new: Crawl, tmp_path: Path):
    vocabulary = "mem://bucket/old.u64"
    FILES[vocabulary] = old.file.read_bytes()
    ended = succeed(new.source, tmp_path / "set", *FLAGS, f"--vocabulary={vocabulary}")
    survivors = expected(new.rows, old.known)
    assert kept_pairs(tmp_path / "set") == survivors
    own = text_rules.vocabulary(count_ngrams(t for _, t in new.rows), SIZE, ngram_hash)
    assert survivors != expected(new.rows, own)  # it makes a difference
    assert 0 < len(survivors) < len(new.rows)
    reasons = Counter(fate.reason for fate in fates(tmp_path / "set").elements())
    assert reasons["rare_token"] == len(new.rows) - len(survivors)
    assert not (tmp_path / "set" / "vocabulary.u64").exists()
    said = manifest(tmp_path / "set")
    file = {"path": vocabulary, "bytes": 8 * SIZE}
    file["sha256"] = sha256(old.file.read_bytes()).hexdigest()
    assert said["given_vocabulary"] == file
    assert said["vocabulary"]["vocabulary"] == SIZE
    assert said["vocabulary"]["file"].items() >= file.items()
    assert "vocabulary_size" not in said["rules"]
    assert ended.out.splitlines()[-1] == f"vocabulary: {SIZE} n-grams, of the given file"
    assert file["sha256"] in (tmp_path / "set" / "README.md").read_text()


def test_a_finished_run_is_known_by_its_vocabulary(old: Old, new: Crawl, tmp_path: Path):
    (tmp_path / "known.u64").write_bytes(old.file.read_bytes())
    flag = f"--vocabulary={tmp_path / 'known.u64'}"
    succeed(new.source, tmp_path / "set", *FLAGS, flag)
    before = digests(tmp_path / "set")
    (tmp_path / "set" / "report.html").unlink()  # as by a kill behind the manifest
    ended = run(new.source, tmp_path / "set", *FLAGS, flag)
    assert (ended.status, ended.err.count("\n")) == (0, 1)
    assert "is finished: nothing to do" in ended.err
    others: list[tuple[str, ...]] = [(), (f"--vocabulary={old.file}",), (flag,)]
    for flags in others:
        if flags == (flag,):
            (tmp_path / "known.u64").write_bytes(old.file.read_bytes()[8:])
        ended = run(new.source, tmp_path / "set", *FLAGS, *flags)
        assert (ended.status, ended.err.count("\n")) == (2, 1)
        assert "holds another run" in ended.err
    assert digests(tmp_path / "set") == before


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("missing.u64", "there is no such file"),
        ("mem://bucket/missing", "there is no such file"),
        ("nowhere://bucket/file", "nowhere"),
        ("folder", "that folder has no vocabulary.u64"),
        ("odd.u64", "it has 719 bytes, no multiple of 8"),
        ("unsorted.u64", "not ascending"),
        ("empty.u64", "it is empty, and every text that has a word would be dropped"),
    ],
)
def test_what_is_no_vocabulary_is_refused(
    monkeypatch, old: Old, tmp_path: Path, path: str, error: str
):
    body = old.file.read_bytes()
    (tmp_path / "folder").mkdir()
    (tmp_path / "odd.u64").write_bytes(body[:-1])
    (tmp_path / "unsorted.u64").write_bytes(body[8:] + body[:8])
    (tmp_path / "empty.u64").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=rf"{path} is not a vocabulary: .*{error}"):
        find_vocabulary(path)


def test_one_of_another_way_of_hashing_is_refused(old: Old):
    """All words of other languages would be rare, and their texts dropped."""
    for language in ("all", "de"):
        with pytest.raises(UsageError, match=f"than with --language={language}: pass the voc"):
            find_vocabulary(str(old.output), language)
    assert find_vocabulary(str(old.output), "en") == find_vocabulary(str(old.file), "")
