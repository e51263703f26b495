"""How near pairs of words are to each other for the text tower, beside people's judgement.

SimLex-999 as the paper's appendix B has it: the [CLS] token before the projection, and nine parts
of the dataset."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from alignset.train.data.tables import finite_number, read_table
from alignset.train.errors import SettingsError
from alignset.train.evaluate.bootstrap import mean_ranks, spearman, spearman_interval
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.page import Card, Section, TaskResult, percent, percents
from alignset.train.evaluate.task_table import WordsSettings
from alignset.train.model.embed import finite

WORDS = ("word1", "word 1", "first"), ("word2", "word 2", "second")
SCORES = ("simlex999", "score", "similarity", "human (mean)", "mean", "rating")
PARTS = ("pos", ""), ("concq", ""), ("simassoc333", "")  # part of speech, concreteness, association
_KINDS = {"A": "adjectives", "N": "nouns", "V": "verbs"}
_SHOWN, _AT_ONCE = 12, 256


def evaluate(flags: WordsSettings, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags.

    Raises:
      SettingsError: the file can't be read. TrainingError: an embedding is not finite.
    """
    pairs, values, parts = [], [], dict[str, list[int]]()  # parts: rows, by name
    table = read_table(Path(flags.data), *WORDS, SCORES, *PARTS)
    for row, (first, second, score, kind, level, hard) in enumerate(table):
        values.append(finite_number(score, f"row {row + 2} of {flags.data}"))
        pairs.append((first, second))
        names = _KINDS.get(kind, kind), level and f"concreteness {level}", "hard" * (hard == "1")
        for name in {*names} - {""}:
            parts.setdefault(name, []).append(row)
    if len({*values}) < 2:
        raise SettingsError(f"{flags.data} must have two pairs of unequal scores or more")
    if flags.prompt.count("{}") != 1:
        raise SettingsError(f"--prompt has one {{}}, where a word goes; got {flags.prompt!r}")
    texts = [flags.prompt.replace("{}", word) for pair in pairs for word in pair]
    embedding, said = open_embedding(), "class token, before the projection"
    if embed := getattr(embedding.embedder, "embed_class_tokens", None):  # some 2,000, never kept
        starts = range(0, len(texts), _AT_ONCE)
        parts_of_texts = [embed(texts[start : start + _AT_ONCE]) for start in starts]
        vectors = finite(np.concatenate(parts_of_texts))
    else:
        vectors, said = embedding.texts(texts), "text embedding"
    scores, cosines = np.array(values), (vectors[::2] * vectors[1::2]).sum(axis=1)
    if not np.ptp(cosines):
        raise SettingsError("all pairs are equally near for --model: train it in their language")

    def result(rows: list[int] | slice) -> dict[str, object]:
        own = scores[rows], cosines[rows]
        numbers: dict[str, object] = {"n": len(own[0]), "spearman": percent(spearman(*own))}
        return numbers | {"intervals": {"spearman": percents(spearman_interval(*own))}}

    of_parts = {
        name: result(rows)
        for name, rows in sorted(parts.items())
        if len(rows) > 2 and np.ptp(scores[rows]) and np.ptp(cosines[rows])
    }
    order = np.argsort(mean_ranks(cosines) - mean_ranks(scores), kind="stable").tolist()
    cards = [
        Card(b"", (" and ".join(pairs[row]), f"people {scores[row]:g}, cosine {cosines[row]:.3f}"))
        for row in order
    ]
    return TaskResult(
        result(slice(None)) | {"embedding": said, "parts": of_parts},
        [
            Section("Nearer than people say", cards[::-1][:_SHOWN]),
            Section("Further than people say", cards[:_SHOWN]),
        ],
    )
