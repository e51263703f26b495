"""Images classified by the classes' names alone, as the paper's table 4."""

import re
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from alignset.train.data.tables import per_language
from alignset.train.errors import SettingsError
from alignset.train.evaluate.classes import (
    Classes,
    babel_languages,
    class_prompts,
    class_weights,
    find_classes,
    find_prompts,
    logits,
)
from alignset.train.evaluate.classification import (
    ClassAnswers,
    class_answers,
    class_scores,
    confusions,
)
from alignset.train.evaluate.embedding import EmbeddedImages, Embedding
from alignset.train.evaluate.page import Card, Section, TaskResult
from alignset.train.evaluate.sets.image_set import ImageSet
from alignset.train.evaluate.sets.labelled import class_labels, find_labelled, labelled_languages

_SHOWN = 12  # images of a section
_PAIRS = 10  # of classes that are confused
# Digits and signs, or hexadecimal, or a synset of WordNet.
_NUMBER = re.compile(r"[\W\d_]+|(?=\D*\d)[0-9a-f]+|n\d{8}", re.IGNORECASE)
Labelled = tuple[EmbeddedImages, npt.NDArray[np.int64]]  # images, and of each its class


def embed_labelled(
    images: ImageSet, classes: Classes, embedding: Embedding, data: str
) -> EmbeddedImages:
    """Raises SettingsError where an image's label is no class, before it is embedded."""
    checked = (item for item in images if classes.number(item.about) >= -1)
    return embedding.images(checked, data)


def select_labelled(embedded: EmbeddedImages, classes: Classes, data: str) -> Labelled:
    """The images that are of the classes. Raises SettingsError where none is."""
    labels = np.array([classes.number(item.about) for item in embedded.items], np.int64)
    rows = np.flatnonzero(labels >= 0)
    if not len(rows):
        raise SettingsError(f"no image with a class in {data} can be decoded: name some that can")
    return embedded.take(rows), labels[rows]


def evaluate(flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
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
    sets, files = list[ImageSet](), 0  # that were gone through
    for language, (data, images, classes, prompts) in requests.items():
        texts = embedding.texts(class_prompts(classes.names, prompts))
        score = partial(logits, weights=class_weights(texts, len(prompts)))
        if not sets or sets[-1] is not images:
            embedded = embed_labelled(images, classes, embedding, data)
            embedded.places += files
            files += len(embedded.items) + embedded.skipped
            sets.append(images)
        own_images, labels = select_labelled(embedded, classes, flags.data)
        answers = class_answers(own_images.vectors, labels, score, len(classes.names))
        results[language] = {
            **class_scores(answers, len(classes.names)),
            "prompts": len(prompts),
            "confused": confused_names(answers, classes),
            "skipped": embedded.skipped,
        }
        identities |= {*own_images.identities}
        title = f": {language}" if language else ""
        pictures += sections(answers, classes, own_images, title) if flags.page else []
    if len(results) == 1:
        ((language, result),) = results.items()
        result |= {"language": language} if language else {}
    else:
        shares = ("top1", "mean_per_class")
        means = {name: np.mean([own[name] for own in results.values()]) for name in shares}
        intervals = {language: own.pop("intervals") for language, own in results.items()}
        result = {
            "n": len(identities),
            **{name: round(float(mean), 3) for name, mean in means.items()},
            "languages": results,
            "intervals": {"languages": intervals},
        }
    return TaskResult(result, pictures, lambda: (item.data for each in sets for item in each))


def flags_by_language(flags: Namespace) -> dict[str, Namespace]:
    """The task's flags for each language; by "" where there is none.

    Raises:
      SettingsError: a flag that names files for languages has none for one of them.
    """
    values = {name: per_language(getattr(flags, name)) for name in ("data", "classes", "prompts")}
    languages = sorted({code for own in values.values() for code in own} - {""})
    if not languages:
        languages = babel_languages(flags.classes) or labelled_languages(flags.data) or [""]
    by_language = {}
    for code in languages:
        own = {name: of.get(code, of.get("")) for name, of in values.items()}
        if missing := [name for name, value in own.items() if value is None]:
            raise SettingsError(f"--{missing[0]} has nothing for {code}: add {code}=FILE")
        by_language[code] = Namespace(**vars(flags) | own)
    return by_language


def warn_of_names(classes: Classes) -> None:
    """A line on stderr where most classes are called by numbers, which tell a model nothing."""
    numbers = [name for name in classes.names if _NUMBER.fullmatch(name.strip())]
    if 2 * len(numbers) > len(classes.names):
        print(
            f"{len(numbers)} of {len(classes.names)} classes have a number for a name, as "
            f"{numbers[0][:40]!r}, and the model is asked by the names alone: pass words with "
            "--classes=FILE (a line LABEL, a tab, NAME for each class)",
            file=sys.stderr,
        )


def confused_names(answers: ClassAnswers, classes: Classes) -> list[dict[str, object]]:
    """The pairs of classes that are most often taken for each other."""
    return [
        {"class": classes.names[right], "taken_for": classes.names[answer], "images": count}
        for right, answer, count in confusions(answers, _PAIRS)
    ]


def sections(
    answers: ClassAnswers, classes: Classes, images: EmbeddedImages, title: str = ""
) -> list[Section]:
    """Images classified surest, those that are furthest off, and the classes most confused."""

    def cards(rows: npt.NDArray[np.int64]) -> list[Card]:
        result = []
        for row in rows.tolist():
            right, answer = int(answers.labels[row]), int(answers.choices[row])
            taken = [f"taken for {classes.names[answer]}"] if answer != right else []
            lines = (classes.names[right], *taken, images.items[row].name)
            result.append(Card(int(images.places[row]), lines, answer == right))
        return result

    order = np.argsort(answers.margins, kind="stable")
    titled = {"Surest": order[:_SHOWN], "Furthest off": order[::-1][:_SHOWN]}
    for right, answer, count in confusions(answers, 3):
        rows = np.flatnonzero((answers.labels == right) & (answers.choices == answer))
        name = f"{classes.names[right]}, taken for {classes.names[answer]} ({count})"
        titled[name] = rows[: _SHOWN // 2]
    return [Section(f"{name}{title}", cards(rows)) for name, rows in titled.items()]
