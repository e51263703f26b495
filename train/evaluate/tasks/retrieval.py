"""Texts by images and images by texts, as the paper's tables 2 to 4 and 11 have them."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alignset.train.errors import SettingsError
from alignset.train.evaluate import bootstrap
from alignset.train.evaluate.embedding import EmbeddedImages, Embedding, Vectors
from alignset.train.evaluate.page import Card, Section, TaskResult, percents
from alignset.train.evaluate.retrieval import (
    KS,
    WAYS,
    Captioned,
    Found,
    find_both,
    make_captioned,
    recall_scores,
)
from alignset.train.evaluate.sets.captioned import find_captioned
from alignset.train.evaluate.sets.image_set import ImageSet

_SHOWN = 12  # images of a section


@dataclass
class EmbeddedCaptions:
    """A set that went through a model.

    Attributes:
      texts: of the images' captions, in their order.
    """

    images: EmbeddedImages
    texts: Vectors

    def languages(self) -> list[str]:
        return sorted({caption.language for item in self.images.items for caption in item.about})

    def select(self, language: str) -> "EmbeddedCaptions":
        """The captions of a language, and the images that have some."""
        captions = [caption for item in self.images.items for caption in item.about]
        about = [[c for c in item.about if c.language == language] for item in self.images.items]
        images = self.images.take(np.flatnonzero([len(own) for own in about]))
        images.items = [
            item._replace(about=own)
            for item, own in zip(self.images.items, about, strict=True)
            if own
        ]
        return EmbeddedCaptions(images, self.texts[[c.language == language for c in captions]])

    def pairs(self) -> Captioned:
        captions = [[caption.text for caption in item.about] for item in self.images.items]
        return make_captioned(
            self.images.vectors, self.texts, captions, identities=self.images.identities
        )


def embed_captioned(images: ImageSet, embedding: Embedding, data: str) -> EmbeddedCaptions:
    """Raises SettingsError where no image with a caption can be decoded."""
    embedded = embedding.images((item for item in images if item.about), data)
    if not embedded.items:
        raise SettingsError(f"no pair with a readable image in {data}: --data must name some")
    texts = [caption.text for item in embedded.items for caption in item.about]
    return EmbeddedCaptions(embedded, embedding.texts(texts))


def evaluate(flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags. Each language by itself, as Multi30K is reported: images among those
    that have a caption in it; and the mean of the languages' mean recalls. Its interval is over
    images, which have their captions in all languages.

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
    embedded = embed_captioned(captioned_set, open_embedding(), flags.data)
    languages, images = embedded.languages(), embedded.images
    rows = {name: row for row, name in enumerate(dict.fromkeys(images.identities))}
    results, hits, sections = dict[str, dict[str, Any]](), [], list[Section]()
    for language in languages:
        own = embedded.select(language)
        pairs = own.pairs()
        found = find_both(pairs)
        results[language] = scores(pairs, found)
        hits.append(np.zeros((len(rows), 8)))  # zeros where an image has no caption in a language
        names = [own.images.identities[row] for row in pairs.image_rows]
        hits[-1][[rows[name] for name in names]] = hits_of_images(pairs, found)
        title = f": {language}" if len(languages) > 1 else ""
        sections += _sections(pairs, found, own, title) if flags.page else []
    if len(languages) == 1:
        result = results[languages[0]] | ({"language": languages[0]} if languages[0] else {})
    else:
        mean = np.mean([own["mean_recall"] for own in results.values()])
        interval = bootstrap.interval(np.concatenate(hits, axis=1), _mean_recall)
        intervals = {language: own.pop("intervals") for language, own in results.items()}
        result = {
            "mean_recall": round(float(mean), 3),
            "languages": results,
            "intervals": {"mean_recall": percents(interval), "languages": intervals},
            "n": len(rows),
        }
    return TaskResult(
        result | {"skipped": images.skipped},
        sections,
        lambda: (item.data for item in captioned_set if item.about),
    )


def scores(pairs: Captioned, found: Mapping[str, Found]) -> dict[str, Any]:
    """R@1, 5 and 10, their mean, the median rank (1 is first), with intervals over images."""
    hits, result = hits_of_images(pairs, found), recall_scores(found)
    both = [recall for way in WAYS for recall in result[way].values()]
    ranks = {way: np.sort(found[way].ranks) for way in WAYS}
    result["mean_recall"] = round(float(np.mean(both)), 3)
    result["median_rank"] = {
        way: int(own[(len(own) - 1) // 2]) + 1 for way, own in ranks.items()
    }
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
            way: [int(end) + 1 for end in bootstrap.median_interval(own.astype(float))]
            for way, own in ranks.items()
        },
    }
    return result


def hits_of_images(pairs: Captioned, found: Mapping[str, Found]) -> bootstrap.Floats:
    """float[n, 8]: of each image, for each k: 1 where it found a text, how many of its texts found
    it; then 1, and how many texts it has."""
    n, (of_images, of_texts) = len(pairs.images), (found[way].ranks for way in WAYS)
    columns = []
    for k in KS:
        texts_found = np.bincount(pairs.image_of, weights=of_texts < k, minlength=n)
        columns += [of_images < k, texts_found]
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


def _sections(
    pairs: Captioned, found: Mapping[str, Found], embedded: EmbeddedCaptions, title: str
) -> list[Section]:
    """Images that find their texts surest, and those whose texts come last."""
    given = [caption.text for item in embedded.images.items for caption in item.about]
    texts = [given[row] for row in pairs.text_rows]
    places, ranks = embedded.images.places[pairs.image_rows], found["image_to_text"].ranks

    def card(row: int) -> Card:
        cosines = pairs.texts @ pairs.images[row]
        first = int(np.searchsorted(pairs.image_of, row))
        lines = [f"its text is number {ranks[row] + 1}", f"its own: {texts[first]}"]
        best = np.argsort(-cosines, kind="stable")[:3].tolist()
        lines += [f"{cosines[text]:.2f}  {texts[text]}" for text in best]
        return Card(int(places[row]), tuple(lines), not ranks[row])

    order = np.argsort(ranks, kind="stable").tolist()
    return [
        Section(f"Found first{title}", [card(row) for row in order[:_SHOWN]]),
        Section(f"Found last{title}", [card(row) for row in order[::-1][:_SHOWN]]),
    ]
