"""Which images a run was trained on, by the hashes in the tables beside its shards."""

import hashlib
import json
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alignset.train.data.samples import read_pairs
from alignset.train.data.shard_streams import fingerprint
from alignset.train.errors import TrainingError

# Raised by files that are missing or of another form.
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def find_run(model: str) -> tuple[Path, dict[str, Any]] | None:
    """The folder and the config of the run that a name means: a run's folder, or a model in one."""
    path = Path(model)
    for folder in (path, path.parent) if path.is_dir() else ():
        with suppress(*_UNREADABLE):
            config = json.loads((folder / "config.json").read_text())
            if "sets" in config:
                return folder, config
    return None


def trained_images(model: str, images: Set[str]) -> set[str] | None:
    """Finds images, by the hex SHA-256 of their files, in the training shards of a run, and of the
    run that it began as.

    Returns: some of the images. None where nothing says it: the model is not of a run, or the run
      began as such a model; a shard is no longer in its folder; or a shard's first image is not in
      its table, since images were resized or another program wrote the table.
    """
    run, found = find_run(model), set[str]()
    with suppress(*_UNREADABLE, StopIteration, TrainingError, pa.ArrowException):
        config: Any = run and run[1]
        if before := config["settings"].get("start_from"):
            found.update(trained_images(before, images))  # type: ignore[arg-type]  # None raises
        for name, digest in (shard for each in config["sets"] for shard in each["shards"]):
            # A config may be somebody else's: no `pipe:` command, and no path in a shard's name.
            paths = [Path(folder).absolute() / Path(name).name for folder in config["folders"]]
            shard = next(p for p in paths if p.is_file() and fingerprint(str(p)) == digest)
            first = hashlib.sha256(next(read_pairs([str(shard)])).image).hexdigest()
            table, hashes = pq.ParquetFile(shard.with_suffix(".parquet")), set[str]()
            for part in table.iter_batches(columns=["sha256"]):
                hashes |= ({first} | images) & {str(value) for value in part[0].to_pylist()}
            if first not in hashes:
                return None
            found |= hashes & images
        return found
    return None
