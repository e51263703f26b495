"""How the images of a shard are fetched, judged and stored."""

from __future__ import annotations

from dataclasses import dataclass

from alignset.transforms.blocklists.blocklists import NO_LISTS, Blocklists
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.safety.model_files import UnsafeModel


@dataclass(frozen=True)
class ShardSettings:
    """How images are fetched, judged and stored; scored where there is a model.

    Attributes:
      forget_blocked: whether the rows of what is on a blocklist hold neither URL nor text.
      thumbnails: dropped images of each rule that have one in `rejected/`.
      descriptors: a folder for the descriptors of the images to train on; "" where none are wanted.
      looks: whether sidecars say how images look (LOOK_SCHEMA).
    """

    rules: RuleSettings
    fetch: FetchSettings
    resize: ResizeSettings
    unsafe_model: UnsafeModel | None = None
    blocklists: Blocklists = NO_LISTS
    forget_blocked: bool = False
    thumbnails: int = 0
    descriptors: str = ""
    looks: bool = False
