"""The language of a text by three detectors: their majority, each asked no more than needed."""

import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pycld2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignset.transforms.pairs.language_votes import (
    DETECTORS,
    _load_langdetect,
    detected_languages,
    found_languages,
    language_scores,
)
from alignset.transforms.rules.language_codes import NUMBERED, OF_ELDC
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.workers.threads import map_in_threads
from tests.support.labelled_texts import ENGLISH_TEXTS, FOREIGN_TEXTS
from tests.support.languages_by_eldc import language_score
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


def languages(texts: list[str], detector: str = "vote") -> list[str]:
    return detected_languages(pa.array(texts, pa.string()), detector)[0].to_pylist()


def test_the_language_of_a_text_and_who_voted_for_it() -> None:
    texts = [*OF_TEXTS, *map(str.upper, OF_TEXTS)]
    found, votes = (column.to_pylist() for column in detected_languages(pa.array(texts), "vote"))
    assert found == [*OF_TEXTS.values()] * 2  # case says nothing
    for language, said in zip(found, votes, strict=True):
        names = said.split(",")
        if language != "und":
            assert names.count(language) == 2
        # The third is asked only where the first two do not agree.
        assert len(names) == (2 if names[0] == names[1] else 3)


def test_langdetect_has_one_answer_a_text_in_any_order_and_thread() -> None:
    texts = [*OF_TEXTS, *map(str.upper, OF_TEXTS), *FOREIGN_TEXTS, "a\0b", "\U0001f600" * 99]
    found, said = detected_languages(in_the_middle(pa.array(texts)), "langdetect")
    answers = dict(zip(texts, found.to_pylist(), strict=True))
    assert said.to_pylist() == found.to_pylist()
    assert {*answers.values()} <= {*NUMBERED}
    # Lao, which it does not know; one letter; and a mark.
    wrong = {"ຮູບຂອງເດັກນ້ອຍ", "1920 x 1080", "\u200b\u0301"}
    assert {text: answers[text] for text in OF_TEXTS.keys() - wrong} == {
        text: language for text, language in OF_TEXTS.items() if text not in wrong
    }
    # The profiles are loaded anew, with several threads waiting for them.
    _load_langdetect.cache_clear()
    columns = [texts[at:] + texts[:at] for at in range(0, 40, 5)]
    again = map_in_threads(lambda c: dict(zip(c, languages(c, "langdetect"), strict=True)), columns)
    assert [*again] == [answers] * len(columns)


@pytest.mark.parametrize("detector", DETECTORS)
def test_english_can_be_found_by_a_detector_too(detector: str) -> None:
    found = found_languages(pa.array([ENGLISH, GERMAN]), language_rule("en", detector))
    assert (found.languages.to_pylist(), found.scores.null_count) == (["en", "de"], 2)


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


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_text_of_any_length_takes_the_time_of_its_beginning(detector: str) -> None:
    """Only the copy of its bytes takes longer for a longer text."""

    def seconds(size: int) -> float:
        marks = "\u0301" * size
        columns = [pa.array([f"{marks}{n}"]) for n in range(5)]
        begun = time.process_time()
        for column in columns:
            detected_languages(column, detector)
        return time.process_time() - begun

    seconds(10)
    assert seconds(2_000_000) < 8 * seconds(1_000_000) + 0.05


RULE = language_rule("en")
ENGLISH = "two white dogs running along the beach in the morning"
GERMAN = "zwei weiße Hunde laufen am Morgen den Strand entlang"
CHINESE = "两只白色的狗早上在海滩上奔跑"

# Many threads ask at once, before any table is loaded.
AT_ONCE = f"""
import logging
logging.basicConfig(level=logging.ERROR)  # as the command does: Beam warns of what it does not find
import pyarrow as pa
from alignset.transforms.pairs.language_votes import found_languages
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.workers.threads import map_in_threads
rows = "mini bar", "a toy trombone", "{GERMAN}"
columns = [pa.array([f"{ENGLISH} {{i}}", *rows]) for i in range(8)]
rule = RuleSettings(min_language_score=0.61)
answers = map_in_threads(lambda column: found_languages(column, rule), columns)
print({{(*wrong.rows.tolist(), *wrong.languages.to_pylist()) for wrong in answers}})
import sys
print(*sorted({{"pycld2", "py3langid", "langdetect"}} & {{*sys.modules}}))
found_languages(pa.array(["un perro y el gato"]), RuleSettings(language="es"))
print("pycld2" in sys.modules)
"""


def found(texts: list[str], rule: RuleSettings = RULE) -> dict[int, str]:
    wrong = found_languages(pa.array(texts, pa.string()), rule)
    assert wrong.rows.dtype == np.int64
    assert wrong.scores.type == pa.float64()
    assert len(wrong.scores) == len(wrong.rows)
    return dict(zip(wrong.rows.tolist(), wrong.languages.to_pylist(), strict=True))


def score(text: str, language: str) -> tuple[float, str]:
    scores, rivals = language_scores(pa.array([text], pa.string()), language)
    return float(scores[0]), [*OF_ELDC, "und"][rivals[0]]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, None),
        (GERMAN, "de"),
        (CHINESE, "zh"),
        ("1920 - 300", "und"),
        ("", "und"),
        ("active contour model", None),  # by eldc French: 0.46; by its words 0.5016
        ("plot radon transform", None),  # Malay: 0.49; 0.59
        ("plot pca 3d", "sq"),  # 0 by eldc, which no words can change
        ("rgb to hsv", "cs"),  # 0.51; none of its two long words is in the list: 0.41
        ("a toy trombone.", None),  # Portuguese: 0.477; two words say less than three: 0.504
        ("il y a minutes", "fr"),  # 0.46; one word says less still: 0.48
        ("svalbard and jan mayen", "no"),  # 0.44; three of four words: 0.4908
        ("an litir a ann an cainnt-shanais", "ro"),  # Gaelic: 0.53; one word of four: 0.48
        ("ភាសាខ្មែរ email ភាសាខ្មែរ", "sk"),  # 0.477; one word of three: 0.44
    ],
)
def test_the_verdict_on_a_text(text: str, language: str | None) -> None:
    assert found([text]) == ({} if language is None else {0: language})


@pytest.mark.parametrize(
    "text", ["a rifle", "happy birthday", "plot radon transform", "rgb to hsv"]
)
def test_the_threshold_keeps_what_scores_as_much(text: str) -> None:
    own, rival = score(text, "en")
    assert found([text], replace(RULE, min_language_score=own)) == {}
    above = replace(RULE, min_language_score=float(np.nextafter(own, 1)))
    assert found([text], above) == {0: rival}


def test_threads_that_come_first_wait_for_the_tables() -> None:
    """And processes agree, whatever their hash seed, print nothing of their own, and import no
    other detector for English alone."""
    command = [sys.executable, "-c", AT_ONCE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "{(1, 2, 3, 'it', 'pt', 'de')}\n\nTrue\n"
    assert done.stderr == ""


# What joins letters or stands alone for eldc, is another letter for it or ends a string elsewhere.
odd_words = st.text("abz AZ'’`éñçя中かア한ẞẜİſ\U00020000\U0002fa20\U0001f600\u0301\u200b09.,-_\0\n")
any_text = st.one_of(
    captions, st.text(), odd_words, st.sampled_from([*ENGLISH_TEXTS, *FOREIGN_TEXTS])
)
respelt = any_text.flatmap(lambda text: st.sampled_from([text, text.upper(), text.title()]))


@given(respelt, st.sampled_from(["en", "fr", "eu", "zh"]))
@settings(max_examples=300, deadline=None)
def test_scores_equal_eldcs_own_to_the_last_bit(text: str, language: str) -> None:
    assert score(text, language) == language_score(text.casefold(), language)
    assert 0 <= score(text, language)[0] <= 1


@pytest.mark.parametrize(
    ("letters_from", "language"), [(0, "de"), (140, "de"), (232, "de"), (240, "und")]
)
def test_how_many_characters_are_judged(letters_from: int, language: str) -> None:
    text = f"{'-' * letters_from}weiße Hunde, {GERMAN}"
    assert found([text]) == {0: language}
