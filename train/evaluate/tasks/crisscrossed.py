"""Crisscrossed Captions (Parekh et al., 2020): MSCOCO's test images and captions with people's
judgements of pairs of both, of texts, and of images, in files as its repository has them.

The evaluation, with its thresholds, was written from memory of the paper: neither its text nor its
code was at hand, and no published number was reproduced.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from alignset.train.data.tables import finite_number, read_table
from alignset.train.errors import SettingsError
from alignset.train.evaluate import bootstrap
from alignset.train.evaluate.embedding import Embedding, Vectors
from alignset.train.evaluate.image_sets import find_captioned
from alignset.train.evaluate.page import TaskResult, percent, percents
from alignset.train.evaluate.task_table import CrisscrossedSettings, RetrievalSettings
from alignset.train.evaluate.tasks.retrieval import (
    KS,
    Ints,
    chance,
    embed_captioned,
    find,
    group,
    recalls,
)

# By file: its two columns, and from which score on a pair is right, 0 to 5.
FILES = {
    "sits": ("caption", "image", 3.0),
    "sts": ("caption1", "caption2", 3.0),
    "sis": ("image1", "image2", 2.5),
}
_AT_ONCE = 1 << 14  # pairs


def evaluate(flags: CrisscrossedSettings, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags.

    Raises:
      SettingsError: a file can't be read, or names an image or a caption that is not in the split.
    """
    paths = {kind: Path(flags.data) / f"{kind}_{flags.split}.csv" for kind in FILES}
    if absent := [path for path in paths.values() if not path.is_file()]:
        raise SettingsError(f"there is no file {absent[0]}: name its folder with --data")
    where: dict[str, Any] = {"data": flags.captions, "images": flags.images, "split": flags.split}
    captioned_set = find_captioned(RetrievalSettings(model=flags.model, **where))
    embedded, captioned = embed_captioned(captioned_set, open_embedding(), flags.captions)
    if skipped := embedded.skipped:
        raise SettingsError(f"replace the images of --captions that can't be decoded: {skipped}")
    images, texts, items = embedded.vectors, captioned.texts, embedded.items
    row_of = {Path(item.name).name: row for row, item in enumerate(items)}
    names = [caption.name for item in items for caption in item.about]
    row_of |= {f"sentid:{name}": row for row, name in enumerate(names)}
    near, correlation = dict[str, Ints](), dict[str, Any]()  # near: int64[2, p] pairs
    for kind, (*columns, least) in FILES.items():
        rows, judgements = [], []
        fields = read_table(paths[kind], columns[:1], columns[1:], ("agg_score", "score"))
        for number, (*names, score) in enumerate(fields, 2):  # as COCO_val2014:sentid:7321
            pair = [row_of.get(name.partition(":")[2] or name) for name in names]
            if None in pair:
                missing = names[pair.index(None)]
                raise SettingsError(f"{paths[kind]}: {missing!r} is not in the split of --captions")
            rows.append(pair)
            judgements.append(finite_number(score, f"row {number} of {paths[kind]}"))
        if len(rows) < 2:
            raise SettingsError(f"{paths[kind]} must have two pairs or more")
        pairs, scores = np.array(rows).T, np.array(judgements)
        near[kind] = pairs[:, scores >= least]
        first, second = (texts if name.startswith("caption") else images for name in columns)
        parts = (pairs[:, i : i + _AT_ONCE] for i in range(0, len(scores), _AT_ONCE))
        cosines = np.concatenate([(first[a] * second[b]).sum(axis=1) for a, b in parts])
        correlation[kind] = {"n": len(scores), **bootstrap_correlation(pairs[0], scores, cosines)}

    # Right are an image's own captions, other captions of a caption's image, and what is near.
    image_of = np.repeat(np.arange(len(images)), [len(item.about) for item in items])
    own = np.stack([np.arange(len(texts)), image_of])
    sits = np.concatenate([own, near["sits"]], axis=1)
    of_image = group(image_of, own[0], len(images))
    same = [np.stack([np.full(len(of_image[i]), text), of_image[i]]) for text, i in own.T]
    sts = np.concatenate([*same, near["sts"], near["sts"][::-1]], axis=1)
    sis = np.concatenate([near["sis"], near["sis"][::-1]], axis=1)
    retrieval = {
        "image_to_text": _recalls(images, texts, sits[::-1]),
        "text_to_image": _recalls(texts, images, sits),
        "text_to_text": _recalls(texts, texts, sts),
        "image_to_image": _recalls(images, images, sis),
    }
    result = {"retrieval": retrieval, "correlation": correlation}
    intervals = {
        name: {way: of.pop("intervals") for way, of in scores_of.items()}
        for name, scores_of in result.items()
    }
    return TaskResult({"n": len(images), "captions": len(texts), **result, "intervals": intervals})


def _recalls(queries: Vectors, candidates: Vectors, pairs: Ints) -> dict[str, Any]:
    """Scores of the queries with a right answer by int64[2, p] pairs; none is its own candidate."""
    alike = queries is candidates
    asked, right = np.unique(pairs[:, pairs[0] != pairs[1]] if alike else pairs, axis=1)
    rows, numbers = np.unique(asked, return_inverse=True)
    if not len(rows):
        raise SettingsError("no pair of a file is judged near: its scores are from 0 to 5")
    answers = group(numbers, right, len(rows))
    itself = rows if alike else None
    found = find(queries[rows], candidates, answers.__getitem__, itself)
    return {
        "n": len(rows),
        **recalls(found.ranks),
        "chance": chance(found.right, len(candidates) - alike),
        "intervals": {
            f"R@{k}": percents(bootstrap.mean_interval(1.0 * (found.ranks < k))) for k in KS
        },
    }


def bootstrap_correlation(
    queries: Ints, judgements: bootstrap.Floats, similar: bootstrap.Floats
) -> dict[str, Any]:
    """Spearman's bootstrap correlation of n pairs by query, judgement and similarity: each of 1,000
    samples takes half of the queries, and for each of these one of its pairs."""
    order = np.argsort(queries, kind="stable")
    _, starts, counts = np.unique(queries[order], return_index=True, return_counts=True)
    rng, values = np.random.default_rng(bootstrap.SEED), np.empty(bootstrap.RESAMPLES)
    for i in range(bootstrap.RESAMPLES):
        half = rng.choice(len(starts), max(2, len(starts) // 2), replace=False)
        rows = order[starts[half] + (rng.random(len(half)) * counts[half]).astype(np.int64)]
        values[i] = bootstrap.spearman(judgements[rows], similar[rows])
    return {
        "spearman": percent(float(np.nanmean(values))),
        "deviation": percent(float(np.nanstd(values))),
        "intervals": {"spearman": percents(bootstrap.central(values))},
    }
