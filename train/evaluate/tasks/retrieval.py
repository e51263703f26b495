"""Texts by images and images by texts, as the paper's tables 2 to 4 have them."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from alignset.train.errors import SettingsError
from alignset.train.evaluate import bootstrap
from alignset.train.evaluate.classification import parts
from alignset.train.evaluate.embedding import EmbeddedImages, Embedding
from alignset.train.evaluate.feature_store import Features
from alignset.train.evaluate.retrieval import (
    KS,
    WAYS,
    Captioned,
    both_ranks,
    make_captioned,
    recall_scores,
)
from alignset.train.evaluate.sets.captioned import Caption, CaptionedSet, find_captioned
from alignset.train.evaluate.task_result import Card, Section, TaskResult, percent, percents

_SHOWN = 12  # images of a section
_TEXTS_AT_ONCE = 1 << 14
Ints = npt.NDArray[np.int64]


@dataclass
class EmbeddedCaptions:
    """A set that went through a model.

    Attributes:
      captions: of each image that could be decoded.
      names: of these images.
    """

    images: EmbeddedImages
    texts: Features
    captions: list[list[Caption]]
    names: list[str]


def embed_captioned(
    captioned_set: CaptionedSet, embedding: Embedding, where: str
) -> EmbeddedCaptions:
    """Raises SettingsError where no image with a caption can be decoded."""
    images, items = embedding.items(image for image in captioned_set if image.captions)
    if not items:
        raise SettingsError(f"no pair with a readable image in {where}: --data must name some")
    captions = [item.captions for item in items]
    texts = embedding.texts([caption.text for own in captions for caption in own])
    return EmbeddedCaptions(images, texts, captions, [item.name for item in items])


def evaluate(flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags.

    Raises:
      SettingsError: the dataset can't be read. TrainingError: the model diverged.
    """
    captioned_set = find_captioned(
        flags.data,
        images=flags.images,
        split=flags.split,
        lines=flags.caption_lines,
        field=flags.caption_field,
        most=flags.captions_per_image,
        image_list=flags.image_list,
    )
    embeddings = embed_captioned(captioned_set, open_embedding(), flags.data)
    languages = sorted({caption.language for own in embeddings.captions for caption in own})
    if len(languages) > 1:
        by_language = {language: _in_language(embeddings, language) for language in languages}
        result, sections = _by_language(by_language)
        result["n"] = len(set(embeddings.images.identities))
    else:
        pairs = pairs_of(embeddings)
        ranks = both_ranks(pairs)
        result = scores(pairs, ranks) | ({"language": languages[0]} if languages[0] else {})
        sections = partial(_sections, pairs, ranks[0], embeddings)
    return TaskResult(
        result | {"skipped": embeddings.images.skipped},
        sections() if flags.page else [],
        lambda: (image.data for image in captioned_set if image.captions),
    )


def _in_language(embeddings: EmbeddedCaptions, language: str) -> EmbeddedCaptions:
    """The captions of one language, and the images that have some."""
    captions = [[c for c in own if c.language == language] for own in embeddings.captions]
    rows = np.flatnonzero([len(own) for own in captions])
    mask = [caption.language == language for own in embeddings.captions for caption in own]
    return EmbeddedCaptions(
        embeddings.images.take(rows),
        embeddings.texts.take(np.flatnonzero(mask)),
        [captions[row] for row in rows.tolist()],
        [embeddings.names[row] for row in rows.tolist()],
    )


def pairs_of(embeddings: EmbeddedCaptions) -> Captioned:
    return make_captioned(
        embeddings.images.features,
        embeddings.texts,
        [[caption.text for caption in own] for own in embeddings.captions],
        identities=embeddings.images.identities,
    )


def _by_language(
    sets: dict[str, EmbeddedCaptions],
) -> tuple[dict[str, Any], Callable[[], list[Section]]]:
    """Each language by itself, as Multi30K is reported: images among those that have a caption in
    it; and the mean of the languages' mean recalls. Its interval is over images, which have their
    captions in all languages."""
    of_each: dict[str, Any] = {}
    drawn: dict[str, Callable[[], list[Section]]] = {}
    hits: dict[str, tuple[list[bytes], bootstrap.Floats]] = {}
    for language, embeddings in sets.items():
        pairs = pairs_of(embeddings)
        ranks = both_ranks(pairs)
        of_each[language] = scores(pairs, ranks)
        images = [*dict.fromkeys(embeddings.images.identities)]
        hits[language] = images, hits_of_images(pairs, *ranks)
        drawn[language] = partial(_sections, pairs, ranks[0], embeddings)
    mean = np.mean([of["mean_recall"] for of in of_each.values()])
    intervals = {
        "mean_recall": percents(bootstrap.interval(_side_by_side(hits), _mean_recall)),
        "languages": {language: of.pop("intervals") for language, of in of_each.items()},
    }
    result = {"mean_recall": round(float(mean), 3), "languages": of_each, "intervals": intervals}
    return result, lambda: [
        Section(f"{section.title}: {language}", section.cards)
        for language, of_language in drawn.items()
        for section in of_language()
    ]


def _side_by_side(hits: dict[str, tuple[list[bytes], bootstrap.Floats]]) -> bootstrap.Floats:
    """float[n, 8 * languages] of all images, zeros where an image has no caption in a language.

    Args:
      hits: of each language the identities of its images, and what `hits_of_images` gives.
    """
    every = {name: row for row, name in enumerate({n for names, _ in hits.values() for n in names})}
    columns = []
    for names, of_language in hits.values():
        column = np.zeros((len(every), of_language.shape[1]))
        column[[every[name] for name in names]] = of_language
        columns.append(column)
    return np.concatenate(columns, axis=1)


def scores(pairs: Captioned, ranks: tuple[Ints, Ints]) -> dict[str, Any]:
    """R@1, 5 and 10, their mean, the median rank (1 is first), with intervals over images.

    Args:
      ranks: what `both_ranks` gives.
    """
    hits = hits_of_images(pairs, *ranks)
    result: dict[str, Any] = recall_scores(pairs, ranks)
    both = [result[way] for way in WAYS]
    result["mean_recall"] = round(float(np.mean([r for way in both for r in way.values()])), 3)
    medians = [int(np.sort(each)[(len(each) - 1) // 2]) + 1 for each in ranks]
    result["median_rank"] = dict(zip(WAYS, medians, strict=True))
    result["intervals"] = {
        **{
            way: {
                f"R@{k}": percents(bootstrap.ratio_interval(hits[:, 2 * i + w], hits[:, 6 + w]))
                for i, k in enumerate(KS)
            }
            for w, way in enumerate(WAYS)
        },
        "mean_recall": percents(bootstrap.interval(hits, _mean_recall)),
        "median_rank": {
            way: [int(end) + 1 for end in bootstrap.median_interval(each.astype(float))]
            for way, each in zip(WAYS, ranks, strict=True)
        },
    }
    return result


def hits_of_images(pairs: Captioned, of_images: Ints, of_texts: Ints) -> bootstrap.Floats:
    """float[n, 8]: of each image, for each k: 1 where it found a text, how many of its texts found
    it; then 1, and how many texts it has."""
    n = len(pairs.images)
    columns = []
    for k in KS:
        columns += [
            of_images < k,
            np.bincount(pairs.image_of, weights=of_texts < k, minlength=n),
        ]
    texts = np.bincount(pairs.image_of, minlength=n)
    return np.stack([*columns, np.ones(n), texts], axis=1).astype(float)


def _mean_recall(times: bootstrap.Floats, kinds: bootstrap.Floats) -> bootstrap.Floats:
    """The mean over the languages of their mean recalls, of float[kinds, 8 * languages]. A language
    without an image in a resample is not in its mean."""
    sums = (times @ kinds).reshape(len(times), -1, 8)  # float[r, languages, 8]
    with np.errstate(invalid="ignore"):
        shares = sums[..., :6] / np.tile(sums[..., 6:], 3)
    means: bootstrap.Floats = np.nanmean(shares.mean(axis=2), axis=1)
    return means


def _sections(pairs: Captioned, of_images: Ints, embeddings: EmbeddedCaptions) -> list[Section]:
    """Images that find their texts surest, and those whose texts come last."""
    names, firsts = np.unique(np.array(embeddings.images.identities), return_index=True)
    texts = [caption.text for own in embeddings.captions for caption in own]
    order = np.sort(firsts)  # of each image that is kept its place among those that were decoded
    all_texts = _texts_in_order(embeddings, texts)
    card = partial(_card, pairs, all_texts, of_images, embeddings.images.places[order])
    by_rank = np.argsort(of_images, kind="stable")
    assert len(names) == len(order)
    return [
        Section("Found first", [card(row) for row in by_rank[:_SHOWN].tolist()]),
        Section("Found last", [card(row) for row in by_rank[::-1][:_SHOWN].tolist()]),
    ]


def _texts_in_order(embeddings: EmbeddedCaptions, texts: list[str]) -> list[str]:
    """The texts as in `make_captioned`: by image, in the order of the images' first files."""
    first_of: dict[bytes, int] = {}
    numbers = [first_of.setdefault(name, len(first_of)) for name in embeddings.images.identities]
    image_of = np.repeat(numbers, [len(own) for own in embeddings.captions])
    return [texts[i] for i in np.argsort(image_of, kind="stable")]


def _card(
    pairs: Captioned, texts: list[str], ranks_of_images: Ints, places: Ints, row: int
) -> Card:
    image = pairs.images[row : row + 1][0]
    scores_of = np.concatenate([part @ image for _, part in parts(pairs.texts, _TEXTS_AT_ONCE)])
    best = np.argsort(-scores_of, kind="stable")[:3]
    own = np.flatnonzero(pairs.image_of == row)
    rank = int(ranks_of_images[row])
    lines = [f"its text is number {rank + 1}", f"its own: {texts[own[0]]}"]
    lines += [f"{percent(float(scores_of[i]) / 100):.2f}  {texts[i]}" for i in best]
    return Card(int(places[row]), tuple(lines), rank == 0)
