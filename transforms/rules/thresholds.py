"""The rules that have a threshold, each declared once: first of texts, then of images. Most are of
ALIGN (Jia et al., 2021), section 3."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from alignset.transforms.rules.rule import Given, Limit, Measure, Numbers, OfCorpus, Rows, Stage

if TYPE_CHECKING:
    from alignset.transforms.columns.hashing import Bools
    from alignset.transforms.columns.records import Axis, Ints


class _Language(Limit):
    """Judged elsewhere, in the column `foreign`; `language_score` is NaN where none is known."""

    def dropped(self, rows: Rows, numbers: Numbers) -> Bools:
        return rows["foreign"]

    def bins(self, rows: Rows, axis: Axis) -> Ints:
        """All edges of a text in the wanted language; no value where no score would keep it."""
        import numpy as np

        bins = np.full(len(rows["foreign"]), len(axis.edges), np.int64)
        foreign = np.flatnonzero(rows["foreign"])
        scores = self.measure.of(rows)[foreign]
        bins[foreign] = np.searchsorted(axis.edges, scores, "right")
        # By more than its score it was found to be in another language, or by no score.
        unknown = np.isnan(scores) | (scores >= rows["own_language_score"])
        bins[foreign[unknown]] = axis.no_value
        return bins


MIN_LANGUAGE_SCORE = _Language(
    name="min_language_score",
    default=0.5,
    help="score of the language against the strongest other, 0 to 1, at least",
    words="Score of the language, at least",
    keeps=">=",
    measure=Measure(
        axis="language",
        label="Score of the language, of texts dropped for it",
        short="language score",
        of=lambda rows: rows["language_score"],
        column="language_score",
        edges=[round(0.05 * part, 2) for part in range(1, 20)],
        dropped_only=True,
    ),
    reason="wrong_language",
    step="language",
    stage=Stage.TEXT,
    means="the alt-text is in another language",
    detail="that language, or `und`",
    range=(0, 1),
    allows="from 0 to 1",
    needs="english",
    instead="--language",
)


WORDS = Measure(
    axis="words",
    label="Words of the text",
    short="words",
    of=lambda rows: rows["word_count"],
    edges=range(1, 41),
    whole=True,
    unit=" words",
)


class _WordLimit(Limit):
    """The limit of a language that has its own, by a column of the flag's name."""

    def dropped(self, rows: Rows, numbers: Numbers) -> Bools:
        own = rows.get(self.name)
        return super().dropped(rows, numbers if own is None else {**numbers, self.name: own})


_word_limit = partial(_WordLimit, measure=WORDS, step="words", stage=Stage.TEXT)
MIN_WORDS = _word_limit(
    name="min_words",
    source="3",
    default=3,
    help="unigrams in the alt-text, at least",
    words="Words of the text, at least",
    keeps=">=",
    reason="too_few_words",
    means="the alt-text has fewer words than the rule allows",
    opened=0,
)
MAX_WORDS = _word_limit(
    name="max_words",
    source="3",
    default=20,
    help="unigrams in the alt-text, at most",
    words="Words of the text, at most",
    keeps="<=",
    reason="too_many_words",
    means="the alt-text has more words than the rule allows",
    opened=1_000_000_000,
    range=(1, math.inf),
    allows=">= 1, or no pair passes",
)


MAX_IMAGES_PER_TEXT = OfCorpus(
    name="max_images_per_text",
    source="3",
    default=10,
    help="images that share an alt-text, at most; otherwise its pairs are dropped",
    reason="text_on_too_many_images",
    step="images_per_text",
    means="the alt-text belongs to too many images",
    makes="frequent_texts",
    of=lambda rows, frequent: frequent.contains(rows["text_hash"]),
    opened=1_000_000_000,
)
MAX_TEXTS_PER_IMAGE = OfCorpus(
    name="max_texts_per_image",
    source="3",
    default=1000,
    help="alt-texts of an image, at most; otherwise its pairs are dropped",
    reason="image_with_too_many_texts",
    step="texts_per_image",
    means="the image has too many alt-texts",
    makes="crowded_images",
    of=lambda rows, images: images.contains(rows["url_hash"]),
    opened=1_000_000_000,
)
# The same of all URLs whose files are equal, once these have come.
TEXTS_OF_CONTENT = Given(
    reason=MAX_TEXTS_PER_IMAGE.reason,
    step="texts_per_content",
    stage=Stage.DATASET,
    means="the images with [its bytes](duplicates.md#placeholders) have too many alt-texts",
)


VOCABULARY_SIZE = OfCorpus(
    name="vocabulary_size",
    source="3",
    default=100_000_000,
    help="most frequent unigrams and bigrams to keep; a text with any other is dropped",
    reason="rare_token",
    step="rare_tokens",
    means="a unigram or bigram is not in the vocabulary",
    makes="vocabulary",
    of=lambda rows, ngrams: rows["has_ngram_outside"](ngrams, rows.alive),
    costly=True,
    opened=1_000_000_000_000,
    instead="--vocabulary_size, or --vocabulary of a larger dataset",
)


MAX_PAIRS_PER_CONCEPT = OfCorpus(  # where it is above 0 alone
    name="max_pairs_per_concept",
    default=0,
    help="pairs to keep, about, of a word or word pair that occurs more often; 0 balances nothing",
    reason="frequent_concepts",
    step="balance",
    means="its words and pairs of words are [frequent](rules.md#by-concepts), and its key's "
    "hash was not chosen; this step is there with `--max_pairs_per_concept` alone",
    makes="concepts",
    of=lambda rows, counts: rows["is_beyond_concepts"](counts, rows.alive),
    costly=True,
    range=(0, float("inf")),
    allows=">= 0",
    opened=0,
)


_size_limit = partial(Limit, step="size", stage=Stage.HEADER)
MIN_SIDE = _size_limit(
    name="min_image_side",
    source="3",
    default=200,
    help="px; the shorter side must be larger than this",
    words="Shorter side, px, larger than",
    keeps=">",
    measure=Measure(
        axis="side",
        label="Shorter side of the image, px",
        short="shorter side, px",
        of=lambda rows: rows["shorter"],
        edges=(
            *range(16, 208, 16),
            *(208, 224, 240, 256, 288, 320, 352, 384, 448, 512, 640, 768, 1024, 1536, 2048),
        ),
        whole=True,
        unit=" px",
    ),
    reason="too_small",
    means="the shorter side of the image is too short",
    opened=0,
    brief="px; the shorter side must be larger",
)
MAX_ASPECT = _size_limit(
    name="max_image_aspect",
    source="3",
    default=3.0,
    help="longer side / shorter side must be smaller than this",
    words="Longer side / shorter side, smaller than",
    keeps="<",
    measure=Measure(
        axis="aspect",
        label="Longer side / shorter side",
        short="longer side / shorter side",
        of=lambda rows: rows["longer"],
        over=lambda rows: rows["shorter"],
        edges=(1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 10),
        least=1.0,
    ),
    reason="too_elongated",
    means="the image is too long for its width, or too wide for its height",
    opened=1e9,
    range=(math.nextafter(1, 2), math.inf),
    allows="> 1, or no image passes",
)


MAX_UNSAFE_SCORE = Limit(
    name="max_unsafe_score",
    source="3",
    default=0.5,
    help="NSFW score of an image, 0 to 1, at most; 1 scores none",
    words="NSFW score, at most",
    keeps="<=",
    measure=Measure(
        axis="unsafe",
        label="Unsafe score",
        short="unsafe score",
        of=lambda rows: rows["unsafe_score"],
        column="unsafe_score",
        edges=(0.01, 0.02, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95),
        missing=" {:,} more were not scored.",
        logarithmic=True,
        blurs=0.5,
    ),
    reason="unsafe",
    step="safety",
    stage=Stage.PIXELS,
    means="a classifier's score is too high ([NSFW scores](safety.md))",
    opened=1.0,
    range=(0, 1),
    allows="from 0 to 1, where 1 scores no image",
    needs="unsafe_model",
)


COPY_DISTANCE = 0.25  # what is nearer to an evaluation image is a copy: docs/decontamination.md
MIN_EVALUATION_DISTANCE = Limit(
    name="min_evaluation_distance",
    source="3",
    default=COPY_DISTANCE,
    help="distance to the nearest evaluation image, at least",
    words="Distance to an evaluation image, at least",
    keeps=">=",
    measure=Measure(
        axis="distance",
        label="Distance to the nearest evaluation image",
        short="distance to an evaluation image",
        of=lambda rows: rows["evaluation_distance"],
        column="evaluation_distance",
        edges=(0.25, 0.5, 0.75, 1.25, 1.5, 1.75, 2.0),
        scaled=True,
        missing=" {:,} more have no evaluation image near, or were not compared.",
    ),
    reason="evaluation_overlap",
    step="evaluation",
    stage=Stage.PIXELS,
    means="the image is too near to an evaluation image",
    range=(0, 2),
    allows="from 0 to 2",
    needs="eval_images",
)
