"""Every threshold of the paper, in one place. Flags are named after these fields.

Source: ALIGN (Jia et al., 2021), section 3 and appendix A.
"""

# No `from __future__ import annotations` here: options.py reads the fields' types.
from dataclasses import dataclass, field

from alignset.transforms.pairs.languages import ENGLISH, LANGUAGES, LanguageRule

# With --decontaminate_only: what drops nothing.
OPEN = {
    "language": "",
    "min_words": 0,
    "max_words": 1_000_000_000,
    "max_images_per_text": 1_000_000_000,
    "max_texts_per_image": 1_000_000_000,
    "vocabulary_size": 1_000_000_000_000,
    "min_image_side": 0,
    "max_image_aspect": 1e9,
    "max_unsafe_score": 1.0,
}
REPORTED = {"unwished": "report"}  # with it too


@dataclass(frozen=True)
class Rules:
    """Which pairs are kept. `min_x` and `max_x` name the kept range."""

    language: str = field(
        default="en", metadata={"help": "language of the alt-text, ISO 639-1; empty keeps all"}
    )
    min_language_score: float = field(
        default=0.5,
        metadata={"help": "of the language against the strongest other, 0 to 1, at least"},
    )
    min_unsure_language_score: float = field(
        default=0.49,
        metadata={
            "help": "a score from here to min_language_score leaves it to langdetect; "
            "not of English"
        },
    )
    min_langdetect_probability: float = field(
        default=0.9, metadata={"help": "of the language, where it is left to langdetect, at least"}
    )
    min_words: int = field(default=3, metadata={"help": "unigrams in the alt-text, at least"})
    max_words: int = field(default=20, metadata={"help": "unigrams in the alt-text, at most"})
    max_images_per_text: int = field(
        default=10, metadata={"help": "images that share an alt-text, at most, or the text goes"}
    )
    max_texts_per_image: int = field(
        default=1000, metadata={"help": "alt-texts of an image, at most, or the image goes"}
    )
    vocabulary_size: int = field(
        default=100_000_000,
        metadata={"help": "most frequent unigrams and bigrams; a text with any other goes"},
    )
    min_image_side: int = field(
        default=200, metadata={"help": "px; the shorter side must be larger than this"}
    )
    max_image_aspect: float = field(
        default=3.0, metadata={"help": "longer side / shorter side must be smaller than this"}
    )
    max_unsafe_score: float = field(
        default=0.5,
        metadata={"help": "0 to 1, of a classifier of unsafe images, at most; 1 scores none"},
    )
    min_evaluation_distance: float = field(
        default=-1.0,
        metadata={
            "help": "to the nearest evaluation image, at least, in the unit of the measure; "
            "-1 is the measure's own"
        },
    )

    min_blocked_phash_distance: int = field(
        default=6,
        metadata={"help": "bits of 64 to the nearest perceptual hash of a blocklist, at least"},
    )
    min_blocked_pdq_distance: int = field(
        default=32, metadata={"help": "bits of 256 to the nearest PDQ of a blocklist, at least"}
    )

    def __post_init__(self) -> None:
        if self.language and self.language not in LANGUAGES:
            raise ValueError(
                f"language must be one of {', '.join(LANGUAGES)}; got {self.language!r}"
            )
        self._check_language_scores()
        self._check_blocked_distances()
        for name in ("max_words", "max_images_per_text", "max_texts_per_image", "vocabulary_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be >= 1, or no pair passes; got {getattr(self, name)}"
                )
        for name in ("min_words", "min_image_side"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0; got {getattr(self, name)}")
        if self.min_words > self.max_words:
            raise ValueError(
                f"min_words must be <= max_words, or no text passes; "
                f"got {self.min_words} and {self.max_words}"
            )
        self._check_images()

    def _check_images(self) -> None:
        if not self.max_image_aspect > 1:
            raise ValueError(
                f"max_image_aspect must be > 1, or no image passes; got {self.max_image_aspect}"
            )
        if not 0 <= self.max_unsafe_score <= 1:
            raise ValueError(
                f"max_unsafe_score must be from 0 to 1, where 1 scores no image; "
                f"got {self.max_unsafe_score}"
            )
        if not (0 <= self.min_evaluation_distance <= 64 or self.min_evaluation_distance == -1):
            raise ValueError(
                f"min_evaluation_distance must be from 0 to 64, or -1 for the measure's own; "
                f"got {self.min_evaluation_distance}"
            )

    def _check_language_scores(self) -> None:
        scores = ("min_language_score", "min_unsure_language_score", "min_langdetect_probability")
        for name in scores:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1; got {getattr(self, name)}")
        if self.language == ENGLISH:
            return  # langdetect is not asked
        if self.min_unsure_language_score > self.min_language_score:
            raise ValueError(
                f"min_unsure_language_score must be <= min_language_score, where equal leaves "
                f"nothing to langdetect; "
                f"got {self.min_unsure_language_score} and {self.min_language_score}"
            )

    def _check_blocked_distances(self) -> None:
        for name, bits in (("min_blocked_phash_distance", 64), ("min_blocked_pdq_distance", 256)):
            if not 0 <= getattr(self, name) <= bits:
                raise ValueError(f"{name} must be from 0 to {bits}; got {getattr(self, name)}")

    @property
    def language_rule(self) -> LanguageRule:
        """What is asked of an alt-text's language."""
        return LanguageRule(
            self.language,
            self.min_language_score,
            self.min_unsure_language_score,
            self.min_langdetect_probability,
        )
