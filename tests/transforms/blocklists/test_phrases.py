"""Words and phrases of a list in alt-texts, against a scan of the words."""

import random

import numpy as np
import pyarrow as pa

from alignset.demo import text_rules
from alignset.transforms.blocklists.phrases import has_any_phrase, phrase_hashes
from alignset.transforms.corpus.hash_sets import HashSet
from alignset.transforms.pairs.texts import measure_texts


def marked(texts: list[str], phrases: list[str]) -> list[bool]:
    hashes, words = phrase_hashes(pa.array(phrases, pa.string()))
    measured = measure_texts(pa.array(texts, pa.string()), np.ones(len(texts), np.bool_))
    return has_any_phrase(measured, HashSet(np.unique(hashes)), int(words.max())).tolist()


def test_words_are_compared_as_the_pipeline_counts_them() -> None:
    texts = [
        "The GORE.",
        "gored",
        "a nude, &quot;Photo&quot; here",
        "nude old photo",
        "STRASSE",
        "",
    ]
    assert marked(texts, ["gore", "Nude photo", "straße"]) == [
        True,
        False,
        True,
        False,
        True,
        False,
    ]


def test_phrases_are_found_wherever_they_stand() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    draw = random.Random(seed)
    words = ["a", "b", "c", "Ö", "d,"]
    lines = [" ".join(draw.choices(words, k=draw.randrange(1, 9))) for _ in range(600)]
    phrases = [" ".join(draw.choices(words, k=draw.randrange(2, 5))) for _ in range(25)]
    sought = [text_rules.words(phrase) for phrase in phrases]
    expected = []
    for line in lines:
        of_line = text_rules.words(line)
        expected.append(
            any(
                of_line[at : at + len(phrase)] == phrase
                for phrase in sought
                for at in range(len(of_line))
            )
        )
    assert marked(lines, phrases) == expected
    assert any(expected)
    assert not all(expected)
