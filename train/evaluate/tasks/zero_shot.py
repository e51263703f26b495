"""Zero-shot classification of images, as the paper's table 4.

Accuracies as clip_benchmark computes them, ties too: of classes that tie, torch.topk takes what it
takes, and the mean over the classes takes the first.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain, compress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from alignset.train.data.tables import parse_languages
from alignset.train.errors import SettingsError
from alignset.train.evaluate import bootstrap
from alignset.train.evaluate.classes import (
    Classes,
    babel_languages,
    class_prompts,
    class_weights,
    find_classes,
    find_prompts,
    logits,
)
from alignset.train.evaluate.embedding import EmbeddedImages, Embedding, Vectors
from alignset.train.evaluate.image_sets import (
    ImageSet,
    class_labels,
    find_labelled,
    labelled_languages,
)
from alignset.train.evaluate.page import Card, Section, TaskResult, intervals, percent
from alignset.train.evaluate.task_table import ZeroShotSettings

TOP = 5
_AT_ONCE, _ROWS_AT_ONCE = 1 << 22, 1 << 14  # scores; images, 42 MB of 640 dimensions
_SHOWN = 12  # images of a section
_PAIRS = 10  # of classes that are confused
# Digits and signs, or hexadecimal, or a synset of WordNet.
_NUMBER = re.compile(r"[\W\d_]+|(?=\D*\d)[0-9a-f]+|n\d{8}", re.IGNORECASE)
Ints = npt.NDArray[np.int64]
Labelled = tuple[EmbeddedImages, Ints]  # images, and of each its class


@dataclass(frozen=True)
class ClassAnswers:
    """The classes that a model gives n images.

    Attributes:
      labels: int64[n], the classes that are right.
      best: int64[n, k]: the classes that score best, the best one first, -1 where there are no
        more; k is 5, or 1 where there are fewer classes.
      choices: int64[n]: the first of the classes that score best.
      margins: float32[n]: how much better the best class scores than the right one; of an image
        that is classified right, how much better than the next one, and below zero.
    """

    labels: Ints
    best: Ints
    choices: Ints
    margins: npt.NDArray[np.float32]

    def hits(self, k: int) -> npt.NDArray[np.bool_]:
        right: npt.NDArray[np.bool_] = (self.best[:, :k] == self.labels[:, None]).any(axis=1)
        return right


def select_labelled(embedded: EmbeddedImages, classes: Classes, data: str) -> Labelled:
    """The images that are of the classes. Raises SettingsError where none is."""
    labels = np.array([classes.number(item.about) for item in embedded.items], np.int64)
    known = labels >= 0
    if not known.any():
        raise SettingsError(
            f"no image with a class in {data}: name images that can be decoded and have one (in "
            "shards by KEY.cls)"
        )
    items = [*compress(embedded.items, known.tolist())]
    return EmbeddedImages(embedded.vectors[known], items, embedded.skipped), labels[known]


def evaluate(flags: ZeroShotSettings, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags; each language by itself where these, or --data, have several.

    Raises:
      SettingsError: the dataset, its classes or the prompts can't be read.
    """
    # Cached for hundreds of languages, say, which share their images.
    find, find_languages = cache(find_labelled), cache(labelled_languages)
    requests = {}
    for language, own in flags_by_language(flags).items():
        of_rows = language if find_languages(own.data) else ""
        images = find(own.data, images=own.images, split=own.split, language=of_rows)
        classes = find_classes(own.classes, class_labels(images), language)
        warn_of_names(classes)
        prompts = find_prompts(own.prompts or classes.prompts)
        requests[language] = own.data, images, classes, prompts
    embedding = open_embedding()
    results, pictures, identities = dict[str, dict[str, Any]](), list[Section](), set[bytes]()
    sets, samples = list[ImageSet](), dict[str, Any]()  # that were gone through; by language
    for language, (data, images, classes, prompts) in requests.items():
        said = class_prompts(classes.names, prompts)
        counts = [*map(len, said)]
        score = partial(logits, weights=class_weights(embedding.texts([*chain(*said)]), counts))
        if not sets or sets[-1] is not images:
            # A label that is no class is refused before its image is embedded.
            checked = (item for item in images if classes.number(item.about) >= -1)
            embedded = embedding.images(checked, data)
            sets.append(images)
        own_images, labels = select_labelled(embedded, classes, flags.data)
        answers = class_answers(own_images.vectors, labels, score, len(classes.names))
        results[language] = {
            **class_scores(answers, classes.names),
            "prompts": max(counts),
            "skipped": embedded.skipped,
        }
        samples[language] = class_samples(answers, len(classes.names))
        identities |= {*own_images.identities()}
        title = f": {language}" if language else ""
        pictures += sections(answers, classes, own_images, title) if flags.page else []
    if len(results) == 1:
        ((language, result),) = results.items()
        result |= {"language": language} if language else {}
    else:
        shares = ("top1", "mean_per_class")
        means = {name: np.mean([own[name] for own in results.values()]) for name in shares}
        of_languages = {language: own.pop("intervals") for language, own in results.items()}
        result = {
            "n": len(identities),
            **{name: round(float(mean), 3) for name, mean in means.items()},
            "languages": results,
            "intervals": {"languages": of_languages},
        }
    return TaskResult(
        result,
        pictures,
        lambda: (item.data for each in sets for item in each),
        {"languages": samples} if len(results) > 1 else samples[language],
        sorted(identities) if len(results) > 1 else own_images.identities(),
    )


def flags_by_language(flags: ZeroShotSettings) -> dict[str, ZeroShotSettings]:
    """The task's flags for each language; by "" where there is none.

    Raises:
      SettingsError: a flag that names files for languages has none for one of them.
    """
    values = {
        name: parse_languages(getattr(flags, name)) for name in ("data", "classes", "prompts")
    }
    languages = sorted({code for own in values.values() for code in own} - {""})
    if not languages:
        languages = babel_languages(flags.classes) or labelled_languages(flags.data) or [""]
    by_language = {}
    for code in languages:
        own: dict[str, Any] = {name: of.get(code, of.get("")) for name, of in values.items()}
        if missing := [name for name, value in own.items() if value is None]:
            raise SettingsError(f"--{missing[0]} has nothing for {code}: add {code}=FILE")
        by_language[code] = replace(flags, **own)
    return by_language


def warn_of_names(classes: Classes) -> None:
    """A line on stderr where most classes are called by numbers, which tell a model nothing."""
    numbers = [name for name in classes.names if _NUMBER.fullmatch(name.strip())]
    if 2 * len(numbers) > len(classes.names):
        print(
            f"{len(numbers)} of {len(classes.names)} classes have a number for a name, as "
            f"{numbers[0][:40]!r}, and the model reads the names alone: pass words with "
            "--classes=FILE (a line LABEL, a tab, NAME for each class)",
            file=sys.stderr,
        )


def sections(
    answers: ClassAnswers, classes: Classes, images: EmbeddedImages, title: str = ""
) -> list[Section]:
    """Images classified surest, those that are furthest off, and the classes most confused."""

    def cards(rows: npt.NDArray[np.int64]) -> list[Card]:
        result = []
        for row in rows.tolist():
            right, answer = int(answers.labels[row]), int(answers.choices[row])
            taken = [f"taken for {classes.names[answer]}"] if answer != right else []
            item = images.items[row]
            lines = (classes.names[right], *taken, item.name)
            result.append(Card(item.identity, lines, answer == right))
        return result

    order = np.argsort(answers.margins, kind="stable")
    titled = {"Surest": order[:_SHOWN], "Furthest off": order[::-1][:_SHOWN]}
    for right, answer, count in confusions(answers, 3):
        rows = np.flatnonzero((answers.labels == right) & (answers.choices == answer))
        name = f"{classes.names[right]}, taken for {classes.names[answer]} ({count})"
        titled[name] = rows[: _SHOWN // 2]
    return [Section(f"{name}{title}", cards(rows)) for name, rows in titled.items()]


def class_answers(
    vectors: Vectors,
    labels: Ints,
    score: Callable[[torch.Tensor], torch.Tensor],
    classes: int,
) -> ClassAnswers:
    """Scores float32[n, d] images in parts.

    Args:
      score: float32[m, d] -> float[m, classes].
    """
    best, choices, margins = [], [], []
    size = max(1, min(_ROWS_AT_ONCE, _AT_ONCE // classes))
    for start in range(0, len(vectors), size):
        scores = score(torch.from_numpy(np.ascontiguousarray(vectors[start : start + size])))
        label = torch.from_numpy(labels[start : start + size])[:, None]
        best.append(scores.topk(TOP if classes >= TOP else 1, dim=1)[1].numpy())
        choices.append(scores.argmax(dim=1).numpy())
        wrong = scores.scatter(1, label, -torch.inf).max(dim=1)[0]
        margins.append((wrong - scores.gather(1, label)[:, 0]).float().numpy())
    return ClassAnswers(labels, *map(np.concatenate, (best, choices, margins)))


def class_scores(answers: ClassAnswers, names: list[str]) -> dict[str, Any]:
    """Scores of these images, in percent and with intervals, and the classes that are most often
    taken for each other."""
    samples = class_samples(answers, len(names))
    ks = (1, TOP) if len(names) >= TOP else (1,)
    return {
        "n": len(answers.labels),
        "classes": len(names),
        **{name: percent(sample.value()) for name, sample in samples.items()},
        "chance": {f"top{k}": percent(k / len(names)) for k in ks},
        "intervals": intervals(samples),
        "confused": [
            {"class": names[right], "taken_for": names[answer], "images": images}
            for right, answer, images in confusions(answers, _PAIRS)
        ],
    }


def class_samples(answers: ClassAnswers, classes: int) -> dict[str, bootstrap.Sample]:
    """The accuracies of these images, and their mean over the classes."""
    ks = (1, TOP) if classes >= TOP else (1,)
    ones = np.ones(len(answers.labels))
    shares = {f"top{k}": bootstrap.ratio(answers.hits(k).astype(float), ones) for k in ks}
    right = answers.choices == answers.labels
    return {**shares, "mean_per_class": bootstrap.class_mean(answers.labels, right)}


def confusions(answers: ClassAnswers, most: int) -> list[tuple[int, int, int]]:
    """(right class, answered class, how often), the most frequent first."""
    wrong = answers.choices != answers.labels
    pairs, counts = np.unique(
        np.stack([answers.labels[wrong], answers.choices[wrong]], axis=1),
        axis=0,
        return_counts=True,
    )
    order = np.argsort(-counts, kind="stable")[:most]
    return [(*map(int, pairs[i]), int(counts[i])) for i in order]  # type: ignore[misc]
