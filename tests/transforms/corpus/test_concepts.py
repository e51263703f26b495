"""Balanced concepts: whole commands against the formula in plain Python, and lists of concepts."""

import math
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.errors import UsageError
from alignset.pipeline.options import parse
from alignset.transforms.corpus.concepts import listed_concepts, named_file
from tests.support.command import digests, manifest, succeed
from tests.support.made_batches import language_rule

FLAGS = ("--text_only", "--language=", "--max_images_per_text=1000000")
PAIRS, LIMIT = 3000, 60


def ngrams_of(text: str) -> set[str]:
    words = text.split()
    return {*words, *map(" ".join, pairwise(words))}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A table of texts whose words occur very differently often."""
    rng = random.Random(5)

    def text() -> str:
        return " ".join(f"w{min(int(rng.paretovariate(0.7)), 60)}" for _ in range(3))

    made = [text() for _ in range(PAIRS)]
    rows = {"url": [f"http://h.org/{i}.jpg" for i in range(PAIRS)], "text": made}
    path = tmp_path_factory.mktemp("balance") / "pairs.parquet"
    pq.write_table(pa.table(rows), path)
    return path, made


def kept_texts(output: Path) -> list[str]:
    return pq.read_table(output / "pairs")["caption"].to_pylist()


def shares_of(texts: list[str], listed: set[str] | None = None) -> dict[str, float]:
    """By text, the probability of the formula."""
    counts: Counter[str] = Counter()
    for text in texts:
        words = text.split()
        counts.update([*words, *map(" ".join, pairwise(words))])
    shares = {}
    for text in set(texts):
        concepts = [
            ngram
            for ngram in ngrams_of(text)
            if (counts[ngram] > LIMIT if listed is None else ngram in listed)
        ]
        missed = [1 - min(1, LIMIT / counts[ngram]) for ngram in concepts]
        # Without a concept nothing in it is frequent; or it is in no list, and goes.
        shares[text] = 1 - math.prod(missed) if concepts or listed else 1.0
    return shares


@pytest.mark.parametrize("listed", [None, {"w1", "w2", "w3", "w1 w2", "w7", "nowhere"}])
def test_a_pair_stays_with_the_probability_of_the_formula(
    listed: set[str] | None, texts: tuple[Path, list[str]], tmp_path: Path
):
    path, made = texts
    flags = [*FLAGS, f"--max_pairs_per_concept={LIMIT}"]
    if listed:
        (tmp_path / "list").write_text("\n".join([*listed, "", "  W1  "]))
        flags.append(f"--concepts={tmp_path / 'list'}")
    succeed(path, tmp_path / "set", *flags)
    succeed(path, tmp_path / "again", *flags, "--batch_rows=1000")
    assert digests(tmp_path / "again") == digests(tmp_path / "set")
    kept, all_of = Counter(kept_texts(tmp_path / "set")), Counter(made)
    shares = shares_of(made, listed)
    for text, share in shares.items():
        if share == 1:
            assert kept[text] == all_of[text], text
        if share == 0:
            assert kept[text] == 0, text
    between = [text for text, share in shares.items() if 0 < share < 1]
    expected = sum(shares[text] * all_of[text] for text in between)
    variance = sum(shares[text] * (1 - shares[text]) * all_of[text] for text in between)
    assert expected > 200
    assert abs(sum(kept[text] for text in between) - expected) < 5 * variance**0.5
    dropped = pq.read_table(tmp_path / "set" / "rejected")
    assert {*dropped["reason"].to_pylist()} == {"frequent_concepts"}
    assert {*dropped["step"].to_pylist()} == {"balance"}
    assert manifest(tmp_path / "set")["rules"]["max_pairs_per_concept"] == LIMIT
    assert "| `max_pairs_per_concept` | 60 |" in (tmp_path / "set" / "README.md").read_text()


def test_a_list_is_in_each_wanted_language(tmp_path: Path):
    (tmp_path / "list").write_text("dog\nred dog\n")
    named = named_file(str(tmp_path / "list"))
    english = listed_concepts(named, language_rule(""))
    assert len(english) == 2
    several = listed_concepts(named, language_rule("en,de,ja"))
    assert len(several) == 6
    assert np.isin(english, several).all()  # English n-grams are hashed as they are
    assert (np.diff(several.astype(object)) > 0).all()
    (tmp_path / "list").write_text("dog\n")
    with pytest.raises(ValueError, match="has changed"):
        listed_concepts(named, language_rule(""))


def test_what_cannot_be_balanced_is_one_line(tmp_path: Path):
    for name, content in (
        ("three", b"a red dog"),
        ("none", b"\n"),
        ("bytes", b"\xff"),
        ("no", b"!"),
    ):
        (tmp_path / name).write_bytes(content)
    given = ("--input=a.parquet", f"--output={tmp_path}/o")
    limit = "--max_pairs_per_concept=3"
    for flags, says in (
        ((limit, f"--concepts={tmp_path / 'three'}"), "'a red dog' has 3 words"),
        ((limit, f"--concepts={tmp_path / 'none'}"), "it names no concept"),
        ((limit, f"--concepts={tmp_path / 'no'}"), "'!' has 0 words"),
        ((limit, f"--concepts={tmp_path / 'bytes'}"), "codec"),
        ((limit, f"--concepts={tmp_path / 'absent'}"), "cannot be read: No such file"),
        ((f"--concepts={tmp_path / 'three'}",), "has 3 words"),
        (("--max_pairs_per_concept=-1",), "max_pairs_per_concept must be >= 0"),
        ((limit, "--vocabulary=v.u64"), "with --vocabulary there are none"),
    ):
        with pytest.raises(UsageError, match=says):
            parse([*given, *flags])
    (tmp_path / "three").write_text("dog")
    with pytest.raises(UsageError, match="concepts needs --max_pairs_per_concept"):
        parse([*given, f"--concepts={tmp_path / 'three'}"])
