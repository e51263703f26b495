"""The images of a shard, made from files."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.shards.shard_images import ShardImages
from alignset.transforms.shards.shard_settings import ShardSettings


def empty_images(folder: Path, size: int, rules: RuleSettings, **settings: Any) -> ShardImages:
    how = {"fetch": FetchSettings(), "resize": ResizeSettings(), **settings}
    return ShardImages(size, ShardSettings(rules, **how), folder)


def images_of(
    folder: Path,
    bodies: Iterable[bytes],
    rules: RuleSettings,
    looks: list[Image | Unusable] | None = None,
    **settings: Any,
) -> ShardImages:
    """Files that have all come, and are put aside where they are images."""
    bodies = list(bodies)
    images = empty_images(folder, len(bodies), rules, **settings)
    for row, (body, look) in enumerate(zip(bodies, looks or map(examine, bodies), strict=True)):
        images.sha256[row] = hashlib.sha256(body).hexdigest()
        if isinstance(look, Unusable):
            images.drop(row, look.reason, look.detail)
            continue
        images.sizes[row] = look.width, look.height
        images.put(row, body, look)
    return images
