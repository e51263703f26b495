"""The language of a text by three detectors: their majority, each asked no more than needed."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import pyarrow as pa
import pycld2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alignset.transforms.pairs import language_votes
from alignset.transforms.pairs.language_votes import found_languages, voted_languages
from alignset.transforms.rules.language_codes import NUMBERED
from alignset.transforms.workers.threads import in_threads
from tests.support.labelled_texts import ENGLISH_TEXTS, FOREIGN_TEXTS
from tests.support.languages_by_eldc import voted
from tests.support.made_batches import in_the_middle, language_rule
from tests.support.nasty_texts import captions
from tests.support.root import ROOT

OF_TEXTS = {
    "seekor anjing berlari di pantai pada pagi hari": "ms",  # Indonesian, which is part of it
    "stari drveni stol u vrtu pored kuće": "hr",
    "庭にある古い木のテーブル": "ja",
    "花园里的旧木桌": "zh",
    "โต๊ะไม้เก่าในสวน": "th",
    "बगीचे में पुरानी लकड़ी की मेज": "hi",
    "ຮູບຂອງເດັກນ້ອຍ": "lo",
    "die bruin hond slaap onder die ou houttafel": "af",  # which eldc does not know
    "two white dogs running along the beach in the morning": "en",
    "zwei weiße Hunde laufen am Morgen den Strand entlang": "de",
    "1920 x 1080": "und",
    "": "und",
    "\u200b\u0301": "und",
}
# Each alone makes a detector raise, or reads to one of them as the end of the text.
CONTROLS = ["\0", "\x01", "\x93", "\ufffe", "\U0001ffff", "\u2028", "\x7f"]
spelt = st.one_of(
    captions,
    st.text(),
    st.sampled_from([*ENGLISH_TEXTS, *FOREIGN_TEXTS, *OF_TEXTS]),
    st.tuples(st.sampled_from(FOREIGN_TEXTS), st.sampled_from(CONTROLS)).map(" ".join),
)


def languages(texts: list[str]) -> list[str]:
    return voted_languages(pa.array(texts, pa.string()))[0].to_pylist()


def test_the_language_of_a_text_and_who_voted_for_it() -> None:
    texts = [*OF_TEXTS, *map(str.upper, OF_TEXTS)]
    found, votes = (column.to_pylist() for column in voted_languages(pa.array(texts)))
    assert found == [*OF_TEXTS.values()] * 2  # case says nothing
    for language, said in zip(found, votes, strict=True):
        names = said.split(",")
        if language != "und":
            assert names.count(language) == 2
        # The third is asked only where the first two do not agree.
        assert len(names) == (2 if names[0] == names[1] else 3)


def test_a_rule_finds_the_language_of_all_or_of_what_is_not_english() -> None:
    texts = pa.array([*OF_TEXTS])
    found = found_languages(texts, language_rule("ja,und"))
    assert found.rows.tolist() == [*range(len(texts))]
    assert found.scores.null_count == len(texts)
    alone = found_languages(texts, language_rule("en"))
    assert "en" not in alone.languages.to_pylist()
    assert alone.votes.null_count == len(alone.rows) == len(texts) - 1
    assert len(found_languages(texts, language_rule("")).rows) == 0
    assert len(found_languages(texts.slice(0, 0), language_rule("all")).rows) == 0


@given(st.lists(spelt, max_size=6))
@example(["don'té\0a"])
@settings(max_examples=150, deadline=None)
def test_a_column_equals_its_texts_one_by_one(texts: list[str]) -> None:
    found, votes = voted_languages(in_the_middle(pa.array(texts, pa.string())))
    assert found.to_pylist() == [voted(text.casefold()) for text in texts]
    assert {*found.to_pylist()} <= {*NUMBERED}
    assert {name for said in votes.to_pylist() for name in said.split(",")} <= {*NUMBERED}


@pytest.mark.parametrize("control", CONTROLS)
def test_a_character_that_a_detector_refuses_does_not_lose_the_text(control: str) -> None:
    german = "zwei weiße Hunde laufen am Morgen den Strand entlang"
    assert languages([f"{control}{german}", f"{german[:20]}{control} {german[20:]}"]) == ["de"] * 2


def test_each_distinct_text_is_judged_once_by_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: Counter[str] = Counter()
    detect = pycld2.detect

    def detected(text: str, **how: bool) -> tuple:
        asked[text] += 1
        return detect(text, **how)

    monkeypatch.setattr(pycld2, "detect", detected)
    long = [f"{text} " * (1_000_000 // len(text)) for text in ("e\u0301", "\u0301", "ab", "的")]
    texts = [*OF_TEXTS, *long] * 5
    found = languages(texts)
    assert found == [*OF_TEXTS.values(), *found[len(OF_TEXTS) : len(OF_TEXTS) + len(long)]] * 5
    assert {*asked.values()} == {1}
    assert max(map(len, asked)) == 240


def test_a_text_of_any_length_takes_the_time_of_its_beginning() -> None:
    """Of a longer one only the copy of its bytes grows."""

    def seconds(size: int) -> float:
        marks = "\u0301" * size
        columns = [pa.array([f"{marks}{n}"]) for n in range(5)]
        begun = time.process_time()
        for column in columns:
            voted_languages(column)
        return time.process_time() - begun

    seconds(10)
    assert seconds(2_000_000) < 8 * seconds(1_000_000) + 0.05


def test_threads_agree_and_load_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Callable] = []
    load = language_votes.load_py3langid.__wrapped__

    def counted() -> Callable:
        loaded.append(load())
        return loaded[-1]

    language_votes.load_py3langid.cache_clear()
    monkeypatch.setattr(language_votes, "load_py3langid", lru_cache(1)(counted))
    texts = [*FOREIGN_TEXTS, *OF_TEXTS]
    columns = [texts[at:] + texts[:at] for at in range(8)]
    answers = [dict(zip(column, languages(column), strict=True)) for column in columns]
    assert [*in_threads(lambda c: dict(zip(c, languages(c), strict=True)), columns)] == answers
    assert len(loaded) == 1


def test_english_alone_imports_no_other_detector() -> None:
    code = """
import sys, pyarrow as pa
from alignset.transforms.pairs.language_votes import found_languages
from alignset.transforms.rules.language_codes import LanguageRule
found_languages(pa.array(["a red dog", "ein roter Hund"]), LanguageRule(("en",), 0.5))
print(*sorted({"pycld2", "py3langid", "langdetect"} & {*sys.modules}))
found_languages(pa.array(["un perro y el gato"]), LanguageRule(("es",), 0.5))
print("pycld2" in sys.modules)
"""
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\nTrue\n"
