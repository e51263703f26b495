"""The pairs of whole shards, in their order."""

from collections.abc import Iterable, Iterator

from alignset.train.data.samples import shard_samples


def read_pairs(shards: Iterable[str], caption_field: str = "") -> Iterator[tuple[str, bytes, str]]:
    """(key, image bytes, text) of each sample that has both, in the order of the shards.

    Args:
      caption_field: as `shard_samples` has it.

    Raises:
      TrainingError: a shard cannot be read, is no tar file, or ends too early.
    """
    for shard in shards:
        for sample in shard_samples(shard, caption_field=caption_field):
            if sample.image is not None and sample.text is not None:
                yield sample.key, sample.image, sample.text
