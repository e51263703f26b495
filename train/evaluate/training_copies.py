"""Held-out images that are among the images that a model was trained on: equal files, and copies as
curation's decontamination finds them."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from alignset.train.data.find_shards import find_shards
from alignset.train.data.samples import shard_samples
from alignset.train.errors import SettingsError, counted
from alignset.train.runs.run_folder import trained_images, trained_shards
from alignset.transforms.decontamination.copy_index import CopyIndex
from alignset.transforms.decontamination.copy_index_files import build_copy_index
from alignset.transforms.decontamination.copy_planes import image_planes
from alignset.transforms.images.examine import Unusable, examine

MOST_IMAGES = 20_000  # of a run that are compared without a flag: a minute
NONE = "none"
_AT_ONCE = 256  # images


@dataclass
class TrainingCopies:
    """Copies that were found.

    Attributes:
      images: of the training that were compared.
      equal: the SHA-256 of each held-out file that is a training image's too.
      near: of each other one with a copy among the training images.
    """

    images: int = 0
    equal: set[bytes] = field(default_factory=set)
    near: set[bytes] = field(default_factory=set)

    def counts(self) -> dict[str, int]:
        """The counts, as a result has them."""
        return {"compared": self.images, "equal": len(self.equal), "near": len(self.near)}


def training_shards(model: str, flag: str) -> list[str]:
    """The shards to compare with; says on stderr where there are too many to do so unasked.

    Args:
      model: a run's folder, or the model in it.
      flag: what the flag says: shards; empty: the run's; none: none.

    Raises:
      SettingsError: what is named holds no shard.
    """
    if flag:
        return [] if flag == NONE else find_shards(flag)
    run = next((f for f in (Path(model), Path(model).parent) if (f / "shards.npz").exists()), None)
    shards = trained_shards(run) if run else []
    if run and shards and (images := trained_images(run)) > MOST_IMAGES:
        print(
            f"{run} was trained on {images:,} images, which are not compared with these unasked: "
            "--training=SHARDS does it, 3 to 20 ms an image",
            file=sys.stderr,
        )
        return []
    return shards


def find_copies(held_out: Iterable[bytes], shards: Sequence[str]) -> TrainingCopies:
    """Goes through the images of the shards once.

    Args:
      held_out: the files of images.

    Raises:
      TrainingError: a shard can't be read.
    """
    copies, identities = TrainingCopies(), list[bytes]()
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool,
        tqdm(unit=" images", leave=False, disable=not sys.stderr.isatty()) as bar,
    ):
        build_copy_index(_describe(held_out, identities, pool), Path(folder))
        index, all_identities = CopyIndex(Path(folder)), set(identities)
        seen_digests: set[bytes] = set()  # one image may have many texts, and be in many samples
        training = (sample.image for shard in shards for sample in shard_samples(shard))
        images = (image for image in training if image)
        while batch := list(islice(images, _AT_ONCE)):
            copies.images += len(batch)
            new = {hashlib.sha256(image).digest(): image for image in batch}
            new = {digest: image for digest, image in new.items() if digest not in seen_digests}
            seen_digests |= new.keys()
            copies.equal |= all_identities & new.keys()
            nearest = pool.map(index.copied_by, new.values())
            copies.near |= {identities[match.row] for match in nearest if match is not None}
            bar.update(len(batch))
    copies.near -= copies.equal
    if not copies.images:
        raise SettingsError(f"no image in {counted(len(shards), 'shard')}: name others")
    return copies


def _describe(
    files: Iterable[bytes], identities: list[bytes], pool: ThreadPoolExecutor
) -> Iterator[npt.NDArray[np.uint8]]:
    """The thumbnails of different images that can be decoded, whose SHA-256 go to `identities`."""
    seen_digests: set[bytes] = set()
    files = iter(files)
    while batch := list(islice(files, _AT_ONCE)):
        new = {
            digest: file
            for file in batch
            if (digest := hashlib.sha256(file).digest()) not in seen_digests
        }
        seen_digests |= new.keys()
        looks = pool.map(partial(examine, in_full=True, keep_grey=True), new.values())
        for digest, image in zip(new, looks, strict=True):
            if not isinstance(image, Unusable):
                identities.append(digest)
                yield image_planes([image])
