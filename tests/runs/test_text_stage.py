"""The text stage against the plain implementation of its rules, in parts and whole."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from alignset.demo import text_rules
from alignset.demo.text_rules import Numbers
from alignset.transforms.columns.hashing import HashSet
from alignset.transforms.corpus.count_pairs import count_batch, distinct_pairs
from alignset.transforms.corpus.hash_counts import (
    frequent_ngrams,
    runs,
    sum_by_hash,
    vocabulary_cut,
)
from alignset.transforms.corpus.judge_pairs import CorpusSets, text_rows
from alignset.transforms.pairs.measure_pairs import measure, recalled, remembered
from alignset.transforms.rules.catalogue import PRODUCT
from alignset.transforms.rules.verdicts import faults, first_of
from tests.support.command import fates, run
from tests.support.languages_by_eldc import mistaken_for
from tests.support.made_batches import Rows, language_rule, ngram_hash, pair_batch
from tests.support.nasty_texts import captions, urls

# Texts that meet and differ: the same identity in several forms, n-grams that tie.
MEETING_URLS = [
    *("http://a.example/1", "HTTP://A.example:80/1#x", " http://a.example/1", "http://a.example/2"),
    *("https://a.example/1", "http://b.example", "http://b.example#", "http://é.fr/É", "b.jpg"),
]
MEETING_TEXTS = [
    *("red dog", "Red  DOG", "red&nbsp;dog", "red dog!", "red cat", "dog red", "red", "dog", "-"),
    *(
        "red dog red dog",
        "a b c",
        "a b",
        "b c",
        "caf&eacute; é",
        "CAFE\u0301 É",
        "Straße",
        "STRASSE",
    ),
]
# Beyond doubt for any detector.
LANGUAGE_TEXTS = [
    "the brown dog sleeps under the old wooden table",
    "a white house with a garden near the river",
    "the brown dog sleeps under the old table",
    "der braune Hund schläft unter dem alten Holztisch",
    "ein weißes Haus mit einem Garten am Fluss",
    "la maison blanche avec un jardin près de la rivière",
    "1920 x 1080",
]
rows_of_pairs = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(MEETING_URLS), st.sampled_from(MEETING_TEXTS)),
        st.tuples(st.sampled_from(MEETING_URLS), st.sampled_from(MEETING_TEXTS)),
        st.tuples(st.one_of(st.none(), urls), st.one_of(st.none(), captions)),
        st.tuples(st.sampled_from(MEETING_URLS), st.binary(max_size=3)),
    ),
    max_size=30,
)
numbers_of_rules = st.builds(
    Numbers,
    min_words=st.integers(0, 2),
    max_words=st.integers(2, 4),
    max_images_per_text=st.integers(1, 3),
    max_texts_per_image=st.integers(1, 4),
    vocabulary_size=st.integers(1, 12) | st.just(1000),
)
Outcomes = dict[text_rules.Identity | None, Counter]


class Found(NamedTuple):
    """A row as the text stage tells of it."""

    url: str
    caption: str
    reason: str | None


def outcomes(judged: list[Found]) -> Outcomes:
    """By pair, as the text rules give them. The caption is as it is kept, so not decoded again."""
    by_pair: Outcomes = defaultdict(Counter)
    for url, caption, reason in judged:
        pair = (text_rules.url_identity(url), text_rules.text_identity(caption))
        by_pair[None if reason == "malformed_pair" else pair][reason] += 1
    return dict(by_pair)


def language_of(wanted: str) -> Callable[[str], str]:
    rule = language_rule(wanted)

    def language(text: str) -> str:
        mistaken = mistaken_for(text.casefold(), rule)
        return mistaken.language if mistaken else wanted

    return language


def expected(rows: Rows, numbers: Numbers) -> Outcomes:
    language = language_of(numbers.language)
    return text_rules.judge(rows, numbers, language_of=language, tie_order=ngram_hash)


def _more_than(hashes: pa.Array, limit: int) -> HashSet:
    distinct, counts = runs(np.sort(hashes.to_numpy()))
    return HashSet(distinct[counts > limit])


def judge_in_parts(rows: Rows, numbers: Numbers, batch_rows: int = 7) -> list[Found]:
    """The pure parts of both readings, put together without Beam."""
    starts = range(0, len(rows), batch_rows)
    batches = [(at, pair_batch(rows[at : at + batch_rows])) for at in starts]
    language = language_rule(numbers.language)
    parts = [count_batch(b, first_row=at, language=language) for at, b in batches]
    if not parts:
        return []
    pairs = pa.concat_batches([part.pairs for part in parts])
    first, again = distinct_pairs(pairs)
    repeats = [again, *(part.repeats for part in parts)]
    repeated = [at for rows in repeats for at in rows["row"].to_pylist()]
    foreign = [
        at
        for part in parts
        for at, code, *_ in zip(*(c.to_pylist() for c in part.languages.columns), strict=True)
        if code not in language.languages
    ]
    votes = pairs.filter(pa.array(first & (pairs["counted"].to_numpy() > 0)))
    ngrams, sums = sum_by_hash(
        *(
            np.concatenate([part.ngrams[name].to_numpy() for part in parts])
            for name in ("ngram", "count")
        )
    )
    cut, quotas = vocabulary_cut({0: runs(np.sort(sums))}, numbers.vocabulary_size)
    corpus = CorpusSets(
        _more_than(votes["text"], numbers.max_images_per_text),
        _more_than(votes["url"], numbers.max_texts_per_image),
        HashSet(frequent_ngrams(ngrams, sums, cut, quotas[0])),
    )
    judged = []
    for part, (start, batch) in zip(parts, batches, strict=True):
        measured = measure(batch)
        if start % 2:
            measured = recalled(remembered(part.measures, batch))
        at = np.arange(start, start + len(batch))
        marks = np.isin(at, repeated), np.isin(at, foreign), np.zeros(len(batch), np.bool_)
        asked = text_rows(measured, corpus, *marks)
        reasons = first_of(faults(PRODUCT.texts, asked, asdict(numbers)))
        columns = (measured.url.to_pylist(), measured.text.to_pylist(), reasons.to_pylist())
        judged += map(Found, *columns)
    return judged


@given(rows_of_pairs, numbers_of_rules)
@settings(max_examples=100)
def test_the_parts_equal_the_rules_row_by_row(rows: list, numbers: Numbers) -> None:
    assert outcomes(judge_in_parts(rows, numbers)) == expected(rows, numbers)


@given(
    st.lists(st.tuples(st.sampled_from(MEETING_URLS), st.sampled_from(LANGUAGE_TEXTS))),
    st.just("en"),
    numbers_of_rules,
)
@settings(max_examples=50)
def test_other_languages_are_judged_but_do_not_count(
    rows: list, language: str, numbers: Numbers
) -> None:
    numbers = replace(numbers, language=language, max_words=20)
    assert outcomes(judge_in_parts(rows, numbers)) == expected(rows, numbers)


@given(rows_of_pairs, numbers_of_rules, st.randoms())
@settings(max_examples=50)
def test_order_and_batches_do_not_matter(rows: list, numbers: Numbers, random: Random) -> None:
    in_order = Counter(judge_in_parts(rows, numbers))
    shuffled = random.sample(rows, len(rows))
    # To the letter: which of equal pairs is kept depends on their very strings alone.
    assert Counter(judge_in_parts(shuffled, numbers, batch_rows=random.randint(1, 40))) == in_order


@given(rows_of_pairs, numbers_of_rules)
@settings(max_examples=50)
def test_filtering_twice_is_filtering_once(rows: list, numbers: Numbers) -> None:
    numbers = replace(numbers, vocabulary_size=1000)  # else what is rare depends on what is left
    once = [pair for pair in judge_in_parts(rows, numbers) if pair.reason is None]
    plain = [pair for pair in once if "&" not in pair.caption]  # "&amp;amp;" decodes twice
    assert judge_in_parts([(pair.url, pair.caption) for pair in plain], numbers) == plain


def corpus(random: Random, size: int, texts: list[str]) -> list[tuple]:
    """Rows over many URLs and texts, a few of them everywhere."""
    words = ["red", "Dog", "cat.", "é", "tree", "sky", "(old)", "zebra", "7"]
    rows: list[tuple] = []
    while len(rows) < size:
        url = f"http://host{random.randint(0, 99)}.example/"
        text = " ".join(random.choices(words, range(9, 0, -1), k=random.randint(1, 6)))
        url = random.choice([*[url] * 18, *["http://crowded.example/"] * 3, *MEETING_URLS])
        rows.append((url, random.choice([*[text] * 18, *texts])))
    return [*rows, (None, "red dog"), (MEETING_URLS[0], b"\xff"), (MEETING_URLS[0], None)]


def at_the_limits(numbers: Numbers) -> list[tuple]:
    """Two texts and two images: one of each just within its limit, one just beyond."""
    rows: list[tuple] = []
    for beyond, where in enumerate(("here", "there")):
        text = f"the brown dog sleeps {where}"
        images = range(numbers.max_images_per_text + beyond)
        rows += [(f"http://limit.example/{beyond}/{at}", text) for at in images]
        texts = range(numbers.max_texts_per_image + beyond)
        rows += [(f"http://limit.example/{where}", f"the dog sleeps with {at}") for at in texts]
    return rows


def curate(folder: Path, rows: Rows, numbers: Numbers, files: int, batch_rows: int) -> list[Found]:
    """The command itself, from Parquet files to what it wrote."""
    (folder / "in").mkdir(parents=True)
    for at in range(files):
        table = pa.Table.from_batches([pair_batch(rows[at::files])])
        pq.write_table(table, folder / "in" / f"{at}.parquet", row_group_size=100)
    flags = [f"--{name}={value}" for name, value in asdict(numbers).items()]
    run(folder / "in", folder / "out", "--text_only", f"--batch_rows={batch_rows}", *flags)
    return [Found(*fate[:3]) for fate in fates(folder / "out").elements()]


def test_the_pipeline_equals_the_rules_row_by_row(tmp_path: Path) -> None:
    random, numbers = Random(3), Numbers("en", 1, 8, 6, 10, 60)
    rows = corpus(random, 600, LANGUAGE_TEXTS) + at_the_limits(numbers)
    judged = curate(tmp_path / "a", rows, numbers, 1, 50)
    wanted = expected(rows, numbers)
    assert outcomes(judged) == wanted
    reasons = Counter(pair.reason for pair in judged)
    assert min(reasons.values()) >= 15  # the corpus means something
    assert len(reasons) >= 7
    random.shuffle(rows)
    again = curate(tmp_path / "b", rows, numbers, 3, 7)
    assert Counter(again) == Counter(judged)
