"""How near pairs of words are to each other for the text tower, beside people's judgement.

SimLex-999 as the paper's appendix B has it: the [CLS] token before the projection, and nine parts
of the dataset."""

import math
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alignset.train.data.tables import read_table
from alignset.train.errors import SettingsError, TrainingError, counted
from alignset.train.evaluate.correlation import ranks, spearman, spearman_interval
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.feature_store import NOT_FINITE
from alignset.train.evaluate.task_result import Card, Section, TaskResult, percent, percents

FIRST, SECOND = ("word1", "word 1", "first"), ("word2", "word 2", "second")
SCORES = ("simlex999", "score", "similarity", "human (mean)", "mean", "rating")
KINDS, QUARTILES, HARD = ("pos", ""), ("concq", ""), ("simassoc333", "")
CLASS_TOKEN, TEXT_EMBEDDING = "class token, before the projection", "text embedding"
_NAMES = {"A": "adjectives", "N": "nouns", "V": "verbs"}
_SHOWN, _AT_ONCE = 12, 256


class WordPair(NamedTuple):
    """Two words. score: by people. parts: of the dataset, that the pair is in."""

    words: tuple[str, str]
    score: float
    parts: tuple[str, ...]


def read_words(path: Path) -> list[WordPair]:
    """The pairs of a table; parts are by SimLex's columns of part of speech (`POS`), quartile of
    concreteness (`concQ`) and strong association (`SimAssoc333`), where it has them.

    Raises:
      SettingsError: it can't be read, or a score is not a number.
    """
    pairs = []
    rows = read_table(path, FIRST, SECOND, SCORES, KINDS, QUARTILES, HARD)
    for number, (first, second, score, kind, quartile, hard) in enumerate(rows, 2):
        try:
            value = float(score)
        except ValueError as error:
            raise SettingsError(f"row {number} of {path}: {score!r} is not a number") from error
        if not math.isfinite(value):
            raise SettingsError(f"row {number} of {path}: {score!r} is not a score: take it out")
        names = (_NAMES.get(kind, kind), quartile and f"concreteness {quartile}")
        parts = tuple(filter(None, (*names, "hard" if hard == "1" else "")))
        pairs.append(WordPair((first, second), value, parts))
    if len({pair.score for pair in pairs}) < 2:
        has = counted(len(pairs), "pair")
        raise SettingsError(f"{path} has {has}: list at least two of unequal scores")
    return pairs


def evaluate(flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags.

    Raises:
      SettingsError: the file can't be read. TrainingError: an embedding is not finite.
    """
    pairs = read_words(Path(flags.data))
    if flags.prompt.count("{}") != 1:
        raise SettingsError(f"--prompt has one {{}}, where a word goes; got {flags.prompt!r}")
    texts = [flags.prompt.replace("{}", word) for pair in pairs for word in pair.words]
    embedding, rows = _embed(open_embedding(), texts)
    scores, cosines = np.array([pair.score for pair in pairs]), (rows[::2] * rows[1::2]).sum(axis=1)
    if not _differ(cosines):
        raise SettingsError(
            "all pairs of words are equally near for this model, which gives them no order: see "
            "whether --model is trained and --data in its language"
        )
    parts = {}
    for name in sorted({part for pair in pairs for part in pair.parts}):
        own = np.array([name in pair.parts for pair in pairs])
        if own.sum() > 2 and _differ(scores[own]) and _differ(cosines[own]):
            parts[name] = _scores(scores[own], cosines[own])
    result = _scores(scores, cosines) | {"embedding": embedding, "parts": parts}
    return TaskResult(result, _sections(pairs, scores, cosines) if flags.page else [])


def _embed(embedding: Embedding, texts: list[str]) -> tuple[str, np.ndarray]:
    """The embedded words, and float32[n, width]; a dataset has some 2,000 words, which are not
    kept."""
    embed_class_tokens = getattr(embedding.embedder, "embed_class_tokens", None)
    if embed_class_tokens is None:
        return TEXT_EMBEDDING, embedding.texts(texts)[:]
    starts = range(0, len(texts), _AT_ONCE)
    rows = np.concatenate([embed_class_tokens(texts[start : start + _AT_ONCE]) for start in starts])
    if not np.isfinite(rows).all():
        raise TrainingError(NOT_FINITE)
    return CLASS_TOKEN, rows


def _differ(values: np.ndarray) -> bool:
    return bool((values != values[0]).any())


def _scores(scores: np.ndarray, cosines: np.ndarray) -> dict[str, object]:
    return {
        "n": len(scores),
        "spearman": percent(spearman(scores, cosines)),
        "intervals": {"spearman": percents(spearman_interval(scores, cosines))},
    }


def _sections(pairs: list[WordPair], scores: np.ndarray, cosines: np.ndarray) -> list[Section]:
    """Pairs that the model holds for much nearer, and for much further, than people do."""
    off = ranks(cosines) - ranks(scores)

    def card(row: int) -> Card:
        words = " and ".join(pairs[row].words)
        return Card(-1, (words, f"people {scores[row]:g}, cosine {cosines[row]:.3f}"))

    order = np.argsort(off, kind="stable").tolist()
    return [
        Section("Nearer than people say", [card(row) for row in order[::-1][:_SHOWN]]),
        Section("Further than people say", [card(row) for row in order[:_SHOWN]]),
    ]
