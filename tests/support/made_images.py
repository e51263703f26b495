"""The images of a shard, made from files, and their pairs."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from alignset.pipeline.settings import Settings
from alignset.transforms.arrivals.images import Images, shared_images
from alignset.transforms.blocklists.blocklists import NO_LISTS
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.shards.build_shard import join_images, listed


def image_settings(**settings: Any) -> Settings:
    """The settings of a run, on texts in any language."""
    return Settings(**{"input": "in", "output": "out", "language": "", **settings})


def images_of(
    folder: Path,
    bodies: Iterable[bytes],
    looks: list[Image | Unusable] | None = None,
    measured: Iterable[str] = (),
) -> Images:
    """Files that have all come, and are put aside where they are images."""
    bodies = list(bodies)
    images = Images(len(bodies), folder, measured)
    for row, (body, look) in enumerate(zip(bodies, looks or map(examine, bodies), strict=True)):
        images.note(row, sha256=hashlib.sha256(body).hexdigest())
        if isinstance(look, Unusable):
            images.drop(row, look.reason, look.detail)
            continue
        images.note(row, original_width=look.width, original_height=look.height)
        images.put(row, body, look)
    return images


def pairs_of(
    images: Images,
    rules: RuleSettings,
    evaluation: EvaluationIndex | None = None,
    **columns: Any,
) -> pa.Table:
    """The pairs of images that came, one of each, before rules judge them."""
    count = len(images)
    pairs = {
        "key": pa.array(range(count), pa.uint64()),
        "url": [f"http://a.example/{row}" for row in range(count)],
        "caption": ["a text"] * count,
    }
    table = listed(pa.table(pairs | columns), rules, NO_LISTS)
    return join_images(table, images, shared_images(table, np.ones(count, np.bool_)), evaluation)
