"""How near pairs of words are to each other for the text tower, beside people's judgement, as the
paper's appendix has it for SimLex-999."""

import math
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from alignset.train.data.tables import read_table
from alignset.train.errors import SettingsError, counted
from alignset.train.evaluate.correlation import spearman, spearman_interval
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.task_result import Card, Section, TaskResult, percent, percents

FIRST, SECOND = ("word1", "word 1", "first"), ("word2", "word 2", "second")
SCORES = ("simlex999", "score", "similarity", "human (mean)", "mean", "rating")
KINDS = ("pos", "")
_SHOWN = 12


def read_words(path: Path) -> tuple[list[tuple[str, str]], np.ndarray, list[str]]:
    """Pairs of words, float64[n] of their scores, and their parts of speech, empty where the file
    has none.

    Raises:
      SettingsError: it can't be read, or a score is no number.
    """
    pairs, scores, kinds = [], [], []
    for number, (first, second, score, kind) in enumerate(
        read_table(path, FIRST, SECOND, SCORES, KINDS), 2
    ):
        try:
            scores.append(float(score))
        except ValueError as error:
            raise SettingsError(f"row {number} of {path}: {score!r} is no number") from error
        if not math.isfinite(scores[-1]):
            raise SettingsError(f"row {number} of {path}: {score!r} is no score: take it out")
        pairs.append((first, second))
        kinds.append(kind)
    if len(set(scores)) < 2:
        has = counted(len(pairs), "pair")
        raise SettingsError(f"{path} has {has}: give at least two of unequal scores")
    return pairs, np.array(scores), kinds


def evaluate(flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags.

    Raises:
      SettingsError: the file can't be read.
    """
    pairs, scores, kinds = read_words(Path(flags.data))
    texts = [flags.prompt.replace("{}", word) for pair in pairs for word in pair]
    if flags.prompt.count("{}") != 1:
        raise SettingsError(f"--prompt has one {{}}, where a word goes; got {flags.prompt!r}")
    rows = open_embedding().texts(texts)[:]
    cosines = (rows[::2] * rows[1::2]).sum(axis=1)
    if not _differ(cosines):
        raise SettingsError(
            "all pairs of words are equally near for this model, which gives them no order: see "
            "whether --model is trained and --data in its language"
        )
    result = _scores(scores, cosines)
    if len(set(kinds)) > 1:
        parts = {kind: np.array(kinds) == kind for kind in sorted(set(kinds))}
        result["parts_of_speech"] = {
            kind: _scores(scores[rows], cosines[rows])
            for kind, rows in parts.items()
            if rows.sum() > 2 and _differ(scores[rows]) and _differ(cosines[rows])
        }
    return TaskResult(result, _sections(pairs, scores, cosines) if flags.page else [])


def _differ(values: np.ndarray) -> bool:
    return bool((values != values[0]).any())


def _scores(scores: np.ndarray, cosines: np.ndarray) -> dict[str, object]:
    return {
        "n": len(scores),
        "spearman": percent(spearman(scores, cosines)),
        "intervals": {"spearman": percents(spearman_interval(scores, cosines))},
    }


def _sections(
    pairs: list[tuple[str, str]], scores: np.ndarray, cosines: np.ndarray
) -> list[Section]:
    """Pairs that the model holds for much nearer, and for much further, than people do."""
    off = rankdata(cosines) - rankdata(scores)

    def card(row: int) -> Card:
        words = " and ".join(pairs[row])
        return Card(-1, (words, f"people {scores[row]:g}, cosine {cosines[row]:.3f}"))

    order = np.argsort(off, kind="stable").tolist()
    return [
        Section("Nearer than people say", [card(row) for row in order[::-1][:_SHOWN]]),
        Section("Further than people say", [card(row) for row in order[:_SHOWN]]),
    ]
