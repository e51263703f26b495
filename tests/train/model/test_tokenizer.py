"""The wordpieces: BERT's normalisation, and the same ones from the same texts."""

import os
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
import tokenizers
from transformers import AlignProcessor

from alignset.train.model.dual_encoder import image_processor
from alignset.train.model.tokenizer import (
    SPECIAL,
    english_alone,
    learn_tokenizer,
    load_tokenizer,
    repeated_words,
    save_tokenizer,
    weighted_words,
)
from alignset.train.settings import Settings
from tests.support.root import ROOT

TEXTS = ["Two green stars", "a green heart above a star", "café", "a greenish star", "x"]


def learn(**sizes):
    return learn_tokenizer({"": TEXTS}, **{"vocabulary_size": 60, "max_tokens": 8} | sizes)


def test_words_cases_accents_and_unseen_words(tmp_path: Path):
    tokenizer = learn()
    assert tokenizer.tokenize("GREEN star") == ["green", "star"]
    assert tokenizer.tokenize("Café") == tokenizer.tokenize("cafe")
    assert "[UNK]" not in tokenizer.tokenize("a starheart")  # never seen, but made of pieces
    assert tokenizer.tokenize("星") == ["[UNK]"]
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    loaded = load_tokenizer(tmp_path / "tokenizer")
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert len(loaded("a star " * 20, truncation=True).input_ids) == 8
    ids = tokenizer("a star").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "a", "star", "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(list(range(5))) == list(SPECIAL)


def test_words_of_100_letters_are_learned_and_longer_ones_are_not():
    """BERT's tokenizers give longer ones no pieces. Ids are dense."""
    texts = ["x" * 100, "y" * 101] * 9
    pieces = learn_tokenizer({"": texts}, vocabulary_size=60, max_tokens=8).get_vocab()
    assert any("xx" in piece for piece in pieces)
    assert not any("y" in piece for piece in pieces)
    assert sorted(learn(vocabulary_size=45).get_vocab().values()) == [*range(45)]


def test_rare_letters_do_not_eat_the_vocabulary():
    rare = [f"{chr(0x4E00 + n)}" for n in range(3_000)]
    words = [f"{a}{b}{c}ing star" for a in "bcdfghjk" for b in "aeiou" for c in "lmnprst"]
    tokenizer = learn_tokenizer({"": rare + words * 2}, vocabulary_size=400, max_tokens=9)
    pieces = tokenizer.get_vocab()
    assert len(pieces) == 400
    single = [piece for piece in pieces if len(piece.removeprefix("##")) == 1]
    assert len(single) <= 2 * 64
    assert {"star", "##ing"} <= pieces.keys()
    assert tokenizer.tokenize("星 star") == ["[UNK]", "star"]


@pytest.mark.slow
def test_memory_is_that_of_the_different_words(monkeypatch):
    """A word that each text has a million times takes as much as words that it has once."""

    def peak(texts: int) -> int:
        tracemalloc.start()
        try:
            learn_tokenizer({"": ["a b " * 1_000] * texts}, vocabulary_size=60, max_tokens=8)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)
    assert abs(peak(400) - peak(200)) < 200_000  # the texts of one of both words have 400 KB more

    monkeypatch.setattr("alignset.train.model.tokenizer.MOST_WORDS", 10)
    rare = [f"star {chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(300)]
    long = ["x" * 101] * 900
    pieces = learn_tokenizer({"": rare + long}, vocabulary_size=120, max_tokens=8).get_vocab()
    assert "star" in pieces
    assert not any("xx" in piece for piece in pieces)


MARKS = {
    "ja": ["かき が 好き", "かき か 好き"],
    "th": ["น้ำ", "นำ"],
    "vi": ["con chó", "con cho"],
    "hi": ["की का के क"],
    "en": ["a dog"] * 9,
}


def test_marks_are_kept_but_in_english_and_by_what_transformers_loads(tmp_path: Path):
    texts = [text for own in MARKS.values() for text in own]
    processor = image_processor(Settings(crop_px=32, resize_px=36))
    for strips, folder in ((False, tmp_path / "kept"), (True, tmp_path / "stripped")):
        learned = learn_tokenizer(MARKS, vocabulary_size=200, max_tokens=16, strip_accents=strips)
        AlignProcessor(processor, learned).save_pretrained(folder)
        loaded = AlignProcessor.from_pretrained(folder).tokenizer
        assert loaded(texts).input_ids == learned(texts).input_ids
        for pair in (("chó", "cho"), ("น้ำ", "นำ"), ("が", "か"), ("के", "क")):
            first, second = loaded(list(pair)).input_ids
            assert (first == second) == strips, pair
            assert loaded.unk_token_id not in first + second


def test_what_counts_as_english_alone():
    for texts, english in (
        ({"en": ["café"]}, True),
        ({"": ["a café", *["a dog"] * 19]}, True),  # 1 in 20
        ({"": ["a café", *["a dog"] * 18]}, False),
        ({"": ["5 × 3 — “2”"]}, True),  # signs are not letters
        ({"": ["कुत्ता"]}, False),
        ({"en": ["a dog"], "de": []}, False),
        ({}, True),
    ):
        assert english_alone(texts) == english, texts


def test_a_language_counts_by_its_share_to_the_power_of_a_half():
    texts = {"en": ["dog"] * 900, "de": ["hund"] * 100}
    drawn = {"en": ["dog"] * 9, "de": ["hund"] * 9}
    normal = tokenizers.Tokenizer(tokenizers.models.WordPiece())
    normal.normalizer = tokenizers.normalizers.BertNormalizer()
    normal.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    seen = {"en": 900, "de": 100}
    assert weighted_words(texts, {}, normal) == pytest.approx({"dog": 750, "hund": 250})  # 30 : 10
    assert weighted_words(drawn, seen, normal) == pytest.approx({"dog": 13.5, "hund": 4.5})
    repeated = Counter(
        " ".join(repeated_words({"a": 0.5, "b": 0.75, "c": 20_000.5, "d": 0.2})).split()
    )
    assert repeated == {"b": 1, "c": 20_000}  # the sum is 20,001.95


@pytest.mark.slow
def test_every_process_learns_the_same_pieces_in_any_order_of_texts():
    # tokenizers seeds its hash tables anew in each process.
    script = (
        "from tests.train.model.test_tokenizer import TEXTS, learn\n"
        "TEXTS.sort(key=len, reverse={})\n"
        "print(sorted(learn(vocabulary_size=45).get_vocab().items()))"
    )
    learned = {
        subprocess.run(
            [sys.executable, "-c", script.format(order)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
        ).stdout
        for order in (True, False, True)
    }
    assert len(learned) == 1
