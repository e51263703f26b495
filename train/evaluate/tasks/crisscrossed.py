"""Crisscrossed Captions: MSCOCO's test images and captions with people's judgements of other pairs
too, of images and texts, of texts, and of images.

`sits_SPLIT.csv`, `sts_SPLIT.csv` and `sis_SPLIT.csv` are the dataset's own, of Parekh et al., 2020,
and are read as its repository has them. The evaluation, with its thresholds, was written from
memory of the paper: neither its text nor its code was at hand, and no published number was
reproduced.
"""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alignset.train.data.tables import read_table
from alignset.train.errors import SettingsError, counted
from alignset.train.evaluate import bootstrap
from alignset.train.evaluate.correlation import bootstrap_correlation
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.feature_store import Features
from alignset.train.evaluate.retrieval import KS, Right, chance, ranks, recalls, table
from alignset.train.evaluate.sets.captioned import find_captioned
from alignset.train.evaluate.task_result import TaskResult, percent, percents
from alignset.train.evaluate.tasks.retrieval import EmbeddedCaptions, embed_captioned

# By file: its two columns, and from which score on a pair is right, 0 to 5.
FILES = {
    "sits": (("caption", "image"), 3.0),
    "sts": (("caption1", "caption2"), 3.0),
    "sis": (("image1", "image2"), 2.5),
}
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class JudgedPairs:
    """Pairs that people judged; int64[n] rows of both sides, float64[n] scores."""

    first: Ints
    second: Ints
    scores: npt.NDArray[np.float64]

    def right(self, least: float) -> tuple[Ints, Ints]:
        mask = self.scores >= least
        return self.first[mask], self.second[mask]


def evaluate(flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags.

    Raises:
      SettingsError: a file can't be read, or names an image or a caption that is not in the split.
    """
    folder = Path(flags.data)
    paths = {kind: folder / f"{kind}_{flags.split}.csv" for kind in FILES}
    for path in paths.values():
        if not path.is_file():
            raise SettingsError(
                f"there is no file {path}: --data is the folder of the dataset's files"
            )
    captioned_set = find_captioned(flags.captions, images=flags.images, split=flags.split)
    embeddings = embed_captioned(captioned_set, open_embedding(), flags.captions)
    if embeddings.images.skipped:
        raise SettingsError(
            f"{counted(embeddings.images.skipped, 'image')} of {flags.images or flags.captions} "
            "can't be decoded: the dataset's judgements need all of them"
        )
    judgements = {kind: _read(path, kind, embeddings) for kind, path in paths.items()}
    result: dict[str, Any] = {
        "n": len(embeddings.captions),
        "captions": len(embeddings.texts),
        "retrieval": _retrieval(embeddings, judgements),
        "correlation": _correlations(embeddings, judgements),
    }
    intervals = {
        kind: {way: of.pop("intervals") for way, of in result[kind].items()}
        for kind in ("retrieval", "correlation")
    }
    return TaskResult({**result, "intervals": intervals})


def _read(path: Path, kind: str, embeddings: EmbeddedCaptions) -> JudgedPairs:
    rows_of = _rows_of_images(embeddings) | _rows_of_captions(embeddings)
    first, second, scores = [], [], []
    columns = FILES[kind][0]
    for *names, score in read_table(path, (columns[0],), (columns[1],), ("agg_score", "score")):
        try:
            rows = [rows_of[name] for name in names]
            scores.append(float(score))
        except KeyError as error:
            raise SettingsError(
                f"{path} names {error.args[0]!r}, which is not in the split of --captions: give "
                "the split that it was made of"
            ) from error
        except ValueError as error:
            raise SettingsError(f"{path}: {score!r} is not a number") from error
        first.append(rows[0])
        second.append(rows[1])
    if len(scores) < 2:
        raise SettingsError(f"{path} has {counted(len(scores), 'pair')}: there must be two")
    return JudgedPairs(np.array(first), np.array(second), np.array(scores))


def _rows_of_images(embeddings: EmbeddedCaptions) -> dict[str, int]:
    return {Path(name).name: row for row, name in enumerate(embeddings.names)}


def _rows_of_captions(embeddings: EmbeddedCaptions) -> dict[str, int]:
    """Named by the folder of their image and their sentid, as COCO_val2014:sentid:7321."""
    names = [
        f"{Path(name).name.rpartition('_')[0]}:sentid:{caption.name}"
        for name, own in zip(embeddings.names, embeddings.captions, strict=True)
        for caption in own
    ]
    return {name: row for row, name in enumerate(names)}


def _retrieval(embeddings: EmbeddedCaptions, judgements: dict[str, JudgedPairs]) -> dict[str, Any]:
    """Right are an image's own captions and the pairs that people judged near. An image and a text
    are not among their own candidates."""
    images, texts = embeddings.images.features, embeddings.texts
    image_of = np.repeat(np.arange(len(images)), [len(own) for own in embeddings.captions])
    rows = np.arange(len(texts))
    near = {kind: of.right(FILES[kind][1]) for kind, of in judgements.items()}
    texts_near, images_near = near["sits"]
    pairs = np.concatenate([rows, texts_near]), np.concatenate([image_of, images_near])
    own = table(rows, image_of, (len(rows), len(images)))
    of_texts = (own @ own.T).nonzero()  # captions of one image
    others = of_texts[0] != of_texts[1]
    text_pairs = _both_ways(
        np.concatenate([of_texts[0][others], near["sts"][0]]),
        np.concatenate([of_texts[1][others], near["sts"][1]]),
    )
    return {
        "image_to_text": _recalls(images, texts, pairs[1], pairs[0], alike=False),
        "text_to_image": _recalls(texts, images, pairs[0], pairs[1], alike=False),
        "text_to_text": _recalls(texts, texts, *text_pairs, alike=True),
        "image_to_image": _recalls(images, images, *_both_ways(*near["sis"]), alike=True),
    }


def _both_ways(first: Ints, second: Ints) -> tuple[Ints, Ints]:
    return np.concatenate([first, second]), np.concatenate([second, first])


def _recalls(
    queries: Features, candidates: Features, of: Ints, right: Ints, *, alike: bool
) -> dict[str, Any]:
    """Scores of the queries with a right answer.

    Args:
      of, right: int64[p]: pairs of a query and what is right for it; some of them may be equal.
      alike: the candidates are the queries themselves.
    """
    of, right = np.unique(np.stack([of, right]), axis=1)
    if alike:
        of, right = of[of != right], right[of != right]
    query_rows, numbers = np.unique(of, return_inverse=True)
    if not len(query_rows):
        raise SettingsError("no pair of a file is judged near: its scores are from 0 to 5")
    shape = len(query_rows), len(candidates)
    pairs = Right.of(numbers, right, shape)
    itself = Right.of(np.arange(len(query_rows)), query_rows, shape) if alike else None
    positions = ranks(queries.take(query_rows), candidates, pairs, itself)
    return {
        "n": len(query_rows),
        **recalls(positions),
        "chance": chance(pairs.counts(), len(candidates) - alike),
        "intervals": {
            f"R@{k}": percents(bootstrap.mean_interval((positions < k).astype(float))) for k in KS
        },
    }


def _correlations(
    embeddings: EmbeddedCaptions, judgements: dict[str, JudgedPairs]
) -> dict[str, Any]:
    images, texts = embeddings.images.features, embeddings.texts
    sides = {"sits": (texts, images), "sts": (texts, texts), "sis": (images, images)}
    result = {}
    for kind, (first, second) in sides.items():
        pairs = judgements[kind]
        cosines = _cosines(first, second, pairs)
        mean, deviation, interval = bootstrap_correlation(pairs.first, pairs.scores, cosines)
        result[kind] = {
            "n": len(pairs.scores),
            "spearman": percent(mean),
            "deviation": percent(deviation),
            "intervals": {"spearman": percents(interval)},
        }
    return result


def _cosines(first: Features, second: Features, pairs: JudgedPairs) -> npt.NDArray[np.float32]:
    result = np.empty(len(pairs.scores), np.float32)
    for start in range(0, len(result), size := 1 << 14):
        rows = slice(start, start + size)
        result[rows] = (first[pairs.first[rows]] * second[pairs.second[rows]]).sum(axis=1)
    return result
