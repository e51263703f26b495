"""Texts by images and images by texts, as the paper's tables 2 to 4 and 11 have them.

1. A block of queries is scored against all candidates: float[queries, candidates], at most AT_ONCE.
2. A query's rank is how many wrong candidates score as well as its best right one, or better.
3. Recalls and medians of the ranks are the result; intervals resample images with their texts.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from alignset.train.errors import SettingsError
from alignset.train.evaluate import bootstrap
from alignset.train.evaluate.embedding import EmbeddedImages, Embedding, Vectors
from alignset.train.evaluate.image_sets import ImageSet, find_captioned
from alignset.train.evaluate.page import Card, Section, TaskResult, intervals, percents
from alignset.train.evaluate.task_table import RetrievalSettings
from alignset.train.model.embed import finite

KS = (1, 5, 10)
WAYS = ("image_to_text", "text_to_image")
AT_ONCE = 1 << 24  # scores of a block
_SHOWN = 12  # images of a section

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Captioned:
    """Images and the texts that are right for them.

    Attributes:
      images: float[n, d], L2-normalised.
      texts: float[m, d], L2-normalised.
      image_of: int64[m]: the row of each text's image. An image without a text takes no part.
      words: the m texts.
    """

    images: Vectors
    texts: Vectors
    image_of: Ints
    words: list[str]


class Found(NamedTuple):
    """The ranks of one direction.

    Attributes:
      ranks: int64[q]: how many wrong candidates are before each query's best right one. A wrong one
        that ties goes first, so that vectors which are all equal score nothing.
      right: int64[q]: how many candidates are right for each query.
      candidates: how many there are.
    """

    ranks: Ints
    right: Ints
    candidates: int


def embed_captioned(
    images: ImageSet, embedding: Embedding, data: str, caption: str = ""
) -> tuple[EmbeddedImages, Captioned]:
    """The images with their captions, of the field `caption` where a flag names one.

    Raises:
      SettingsError: no image with a caption can be decoded.
    """
    embedded = embedding.images((item for item in images if item.about), data)
    if not embedded.items:
        flag = f" and a caption in --caption_field={caption}" if caption else ""
        raise SettingsError(
            f"no pair with a readable image{flag} in {data}: "
            f"{'name another field, or ' if flag else ''}--data must name some"
        )
    captions = [[caption.text for caption in item.about] for item in embedded.items]
    texts = embedding.texts([text for own in captions for text in own])
    return embedded, make_captioned(embedded.vectors, texts, captions, embedded.identities())


def evaluate(flags: RetrievalSettings, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags. Each language by itself, as Multi30K is reported: images among those
    that have a caption in it; and the mean of the languages' mean recalls. Its interval is over
    images, which have their captions in all languages.

    Raises:
      SettingsError: the dataset can't be read. TrainingError: the model diverged.
    """
    captioned_set = find_captioned(flags)
    field = flags.caption_field
    images, everything = embed_captioned(captioned_set, open_embedding(), flags.data, field)
    vectors = everything.images
    said = np.array([caption.language for item in images.items for caption in item.about])
    rows, languages = np.unique(everything.image_of), np.unique(said).tolist()
    results, hits, sections = dict[str, dict[str, Any]](), [], list[Section]()
    samples = dict[str, Any]()
    for language in languages:
        own = said == language
        words = [*compress(everything.words, own.tolist())]
        pairs = Captioned(vectors, everything.texts[own], everything.image_of[own], words)
        found = find_both(pairs)
        own_hits = hits_of_images(pairs, found)
        samples[language] = recall_samples(own_hits)
        results[language] = scores(found, samples[language])
        hits.append(np.zeros((len(images.items), 8)))  # of an image without a caption in it
        hits[-1][np.unique(pairs.image_of)] = own_hits
        title = f": {language}" if len(languages) > 1 else ""
        sections += _sections(pairs, found, images, title) if flags.page else []
    if len(languages) == 1:
        result, samples = results[language], samples[language]
        result |= {"language": language} if language else {}
    else:
        mean = np.mean([own["mean_recall"] for own in results.values()])
        of_all = bootstrap.Sample(np.concatenate(hits, axis=1)[rows], _mean_recall)
        mean_interval = percents(bootstrap.interval(*of_all))
        samples = {"mean_recall": of_all, "languages": samples}
        of_languages = {language: own.pop("intervals") for language, own in results.items()}
        result = {
            "mean_recall": round(float(mean), 3),
            "languages": results,
            "intervals": {"mean_recall": mean_interval, "languages": of_languages},
            "n": len(rows),
        }
    return TaskResult(
        result | {"skipped": images.skipped},
        sections,
        lambda: (item.data for item in captioned_set if item.about),
        samples,
        [images.items[row].identity for row in rows],
    )


def scores(found: Mapping[str, Found], samples: dict[str, Any]) -> dict[str, Any]:
    """R@1, 5 and 10, their mean, the median rank (1 is first), with intervals over images, by
    `recall_samples`."""
    result = recall_scores(found)
    recalls = [recall for way in WAYS for recall in result[way].values()]
    ranks = {way: np.sort(found[way].ranks) for way in WAYS}
    result["mean_recall"] = round(float(np.mean(recalls)), 3)
    result["median_rank"] = {way: int(own[(len(own) - 1) // 2]) + 1 for way, own in ranks.items()}
    medians = {
        way: [int(end) + 1 for end in bootstrap.median_interval(own.astype(float))]
        for way, own in ranks.items()
    }
    return result | {"intervals": intervals(samples) | {"median_rank": medians}}


def recall_samples(hits: bootstrap.Floats) -> dict[str, Any]:
    """The recalls of float[n, 8], as `hits_of_images` has them, and their mean."""
    recalls = {
        way: {
            f"R@{k}": bootstrap.ratio(hits[:, 2 * i + w], hits[:, 6 + w]) for i, k in enumerate(KS)
        }
        for w, way in enumerate(WAYS)
    }
    return {**recalls, "mean_recall": bootstrap.Sample(hits, _mean_recall)}


def hits_of_images(pairs: Captioned, found: Mapping[str, Found]) -> bootstrap.Floats:
    """float[n, 8]: of each image, for each k: 1 where it found a text, how many of its texts found
    it; then 1, and how many texts it has."""
    of_images, of_texts = (found[way].ranks for way in WAYS)
    image_of = np.unique(pairs.image_of, return_inverse=True)[1]
    columns = list[npt.NDArray[Any]]()
    for k in KS:
        columns += [of_images < k, np.bincount(image_of, weights=of_texts < k)]
    columns += [np.ones(len(of_images)), np.bincount(image_of)]
    return np.stack(columns, axis=1).astype(float)


def _mean_recall(times: bootstrap.Floats, kinds: bootstrap.Floats) -> bootstrap.Floats:
    """The mean over the languages of their mean recalls, of float[kinds, 8 * languages]. A language
    without an image in a resample is not in its mean."""
    sums = (times @ kinds).reshape(len(times), -1, 8)  # float[r, languages, 8]
    with np.errstate(invalid="ignore"):
        shares = sums[..., :6] / np.tile(sums[..., 6:], 3)
    means: bootstrap.Floats = np.nanmean(shares.mean(axis=2), axis=1)
    return means


def _sections(
    pairs: Captioned, found: Mapping[str, Found], images: EmbeddedImages, title: str
) -> list[Section]:
    """Images that find their texts surest, and those whose texts come last."""
    rows, first_texts = np.unique(pairs.image_of, return_index=True)
    ranks = found["image_to_text"].ranks

    def card(image: int) -> Card:
        cosines = pairs.texts @ pairs.images[rows[image]]
        own = pairs.words[first_texts[image]]
        lines = [f"its text is number {ranks[image] + 1}", f"its own: {own}"]
        best = np.argsort(-cosines, kind="stable")[:3].tolist()
        lines += [f"{cosines[text]:.2f}  {pairs.words[text]}" for text in best]
        return Card(images.items[rows[image]].identity, tuple(lines), not ranks[image])

    order = np.argsort(ranks, kind="stable").tolist()
    return [
        Section(f"Found first{title}", [card(image) for image in order[:_SHOWN]]),
        Section(f"Found last{title}", [card(image) for image in order[::-1][:_SHOWN]]),
    ]


def make_captioned(
    images: Vectors,
    texts: Vectors,
    captions: Sequence[Sequence[str]],
    identities: Sequence[Hashable] | None = None,
) -> Captioned:
    """Images with all their texts.

    Args:
      images: float[n, d], L2-normalised.
      texts: float[m, d], L2-normalised; the texts of image 0, then of image 1, and so on.
      captions: the texts of each image, m in all.
      identities: of the n images, such as hashes of their files. Equal ones are one image, the
        first, with the texts of all of them. None: all are different.
    """
    row_of: dict[Hashable, int] = {}
    names = range(len(captions)) if identities is None else identities
    rows = [row_of.setdefault(name, row) for row, name in enumerate(names)]
    image_of = np.repeat(np.array(rows, np.int64), [len(own) for own in captions])
    return Captioned(images, texts, image_of, [text for own in captions for text in own])


def find_both(pairs: Captioned) -> dict[str, Found]:
    """Ranks of texts for images and of images for texts, by WAYS; images are in the order of their
    rows. A text of another image is as right as one of the image's own that equals it.

    Raises:
      TrainingError: a vector has a number that is not finite.
    """
    rows, image_of = np.unique(pairs.image_of, return_inverse=True)
    number_of: dict[str, int] = {}  # of equal texts
    numbers = np.array([number_of.setdefault(text, len(number_of)) for text in pairs.words])
    everything = np.arange(len(numbers))
    texts_of_image = group(image_of, everything, len(rows))
    texts_of_number = group(numbers, everything, len(number_of))

    def right_texts(image: int) -> Ints:
        own = np.unique(numbers[texts_of_image[image]])
        return np.concatenate([texts_of_number[number] for number in own])

    def right_images(text: int) -> Ints:
        return np.unique(image_of[texts_of_number[numbers[text]]])

    images = pairs.images[rows]
    return {
        "image_to_text": find(images, pairs.texts, right_texts),
        "text_to_image": find(pairs.texts, images, right_images),
    }


def group(keys: Ints, values: Ints, count: int) -> list[Ints]:
    """The values of each key from 0 to `count`.

    >>> [of.tolist() for of in group(np.array([2, 0, 2]), np.array([7, 8, 9]), 3)]
    [[8], [], [7, 9]]
    """
    order = np.argsort(keys, kind="stable")
    return np.split(values[order], np.cumsum(np.bincount(keys, minlength=count))[:-1])


def find(
    queries: Vectors,
    candidates: Vectors,
    right: Callable[[int], Ints],
    itself: Ints | None = None,
) -> Found:
    """One direction.

    Args:
      right: the candidates that are right for a query, one or more, each once.
      itself: int64[q]: of each query the candidate to leave out.

    Raises:
      TrainingError: a vector has a number that is not finite.

    >>> find(np.eye(3), np.eye(3), lambda query: np.array([(query + 1) // 2])).ranks.tolist()
    [0, 0, 2]
    """
    ranks, counts = np.zeros((2, len(queries)), np.int64)
    size = max(1, AT_ONCE // max(1, len(candidates)))
    for start in range(0, len(queries), size):
        scores = finite(queries[start : start + size] @ candidates.T)
        for query, of_query in enumerate(scores, start):
            answers = right(query)
            if itself is not None:
                of_query[itself[query]] = -np.inf
            best = of_query[answers].max()
            of_query[answers] = -np.inf
            ranks[query], counts[query] = (of_query >= best).sum(), len(answers)
    return Found(ranks, counts, len(candidates))


def recall_scores(found: Mapping[str, Found]) -> dict[str, Any]:
    """n, the images; captions, where they are more; R@1, R@5 and R@10 in percent for image_to_text
    and text_to_image; and for chance, which is what a random order would get."""
    m, n = (found[way].candidates for way in WAYS)
    return {
        "n": n,
        **({"captions": m} if m > n else {}),
        **{way: recalls(found[way].ranks) for way in WAYS},
        "chance": {way: chance(found[way].right, found[way].candidates) for way in WAYS},
    }


def recalls(ranks: Ints) -> dict[str, float]:
    """R@k in percent: the share of queries with a right candidate among their k best.

    Args:
      ranks: int64[n]: of each query's best right candidate, 0 is first.

    >>> recalls(np.array([0, 3, 12]))
    {'R@1': 33.333, 'R@5': 66.667, 'R@10': 66.667}
    """
    return {f"R@{k}": round(100 * float((ranks < k).mean()), 3) for k in KS}


def chance(right: Ints, candidates: int) -> dict[str, float]:
    """The R@k of a random order, in percent: 1 - C(m - r, k) / C(m, k) for r right of m candidates.

    Args:
      right: int64[n]: how many candidates are right for each query.

    >>> chance(np.array([2, 2]), 4)
    {'R@1': 50.0, 'R@5': 100.0, 'R@10': 100.0}
    """
    counts, queries = np.unique(right, return_counts=True)
    result = {}
    for k in KS:
        draws = math.comb(candidates, drawn := min(k, candidates))
        misses = [math.comb(candidates - count, drawn) / draws for count in counts.tolist()]
        result[f"R@{k}"] = round(100 * (1 - float(np.average(misses, weights=queries))), 3)
    return result
