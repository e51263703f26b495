"""The settings that the image stage reads."""

from __future__ import annotations

from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.rules.rule_settings import RuleSettings


class ImageSettings(ResizeSettings, FetchSettings, RuleSettings):
    """How images are fetched, judged and stored: a base of the `Settings` of a run, which declare
    the flags of the names here."""

    duplicates: str
    forget_blocked: bool
    holdout: float
    holdout_copies: str
    retried: frozenset[str]
    thumbnails: int

    @property
    def keeps_looks(self) -> bool:
        """Whether sidecars say how images look (LOOK_SCHEMA)."""
        return self.duplicates == "near"

    @property
    def cleans_holdout(self) -> bool:
        """Whether held-out images are looked for among those to train on, by descriptors."""
        return bool(self.holdout) and self.holdout_copies == "drop"

    @property
    def puts_looks_aside(self) -> bool:
        """Whether it is put aside how images look, when they come."""
        return self.cleans_holdout or self.keeps_looks

    @property
    def writes_descriptors(self) -> bool:
        """Whether these are files of their own; else they follow from the looks."""
        return self.cleans_holdout and not self.keeps_looks
