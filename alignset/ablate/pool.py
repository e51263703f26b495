"""The pairs that each choice of rules keeps of one pool.

The pool has every pair whose image arrived, measured, without copies of evaluation images. A
variant is `alignset curate` on the pool with other flags: nothing is fetched again. NSFW scores,
the dearest part of a run, come from the pool.
"""

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from PIL import Image

from alignset.pipeline.errors import FailedRunError, UsageError
from alignset.train.data.images import decode_square
from alignset.train.data.samples import read_pairs
from alignset.train.data.whole_files import write_whole

Bools = npt.NDArray[np.bool_]
Flags = Mapping[str, object]
RANDOM, ALL = "random", "all"


class Variant(NamedTuple):
    """A choice of rules: flags of `alignset curate` on the pool (None keeps all of it), the largest
    NSFW score, the fewest and most characters of a caption, and whether each pair of perceptual
    hash and caption is kept once."""

    name: str
    about: str = ""
    flags: Flags | None = None
    max_unsafe_score: float = 1.0
    characters: tuple[float, float] = (0, np.inf)
    once: bool = False


class Pool:
    """The measured pairs of `out/pool`, in the order of their shards.

    Raises:
      UsageError: there are none.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        tables = sorted((out / "pool/shards").glob("*.parquet"))
        if not tables:
            raise UsageError(f"the pool is empty; {out}/pool/report.html says why")
        self.pairs = ds.dataset(tables).to_table(["key", "caption", "phash", "unsafe_score"])

    def mask(self, variant: Variant, seed: int = 0) -> Bools:
        """Finds which pairs a variant keeps, bool[n]; what was found before is read."""
        name = ALL if variant.name == RANDOM else variant.name
        file, rows = self.out / f"variants/{name}.npy", np.arange(len(self.pairs))
        if not file.exists():
            lengths = pc.utf8_length(self.pairs["caption"]).to_numpy()
            mask = (lengths >= variant.characters[0]) & (lengths <= variant.characters[1])
            if variant.flags is not None:
                folder = file.with_suffix("")
                curate({"input": self.out / "pool", "output": folder, **variant.flags})
                tables = [*(folder / "shards").glob("*.parquet")]  # none where nothing is kept
                keys = ds.dataset(tables, self.pairs.schema).to_table(["key"])["key"]
                shutil.copy(folder / "funnel.json", file.with_suffix(".funnel.json"))
                shutil.rmtree(folder)
                scores = pc.fill_null(self.pairs["unsafe_score"], 0).to_numpy()
                mask &= pc.is_in(self.pairs["key"], keys.combine_chunks()).to_numpy()
                mask &= scores <= variant.max_unsafe_score
            if variant.once:
                columns = self.pairs.select(["phash", "caption"]).append_column("row", [rows])
                by_pair = columns.filter(pa.array(mask)).group_by(["phash", "caption"])
                mask = np.isin(rows, by_pair.aggregate([("row", "min")])["row_min"].to_numpy())
            write_whole(file, lambda sink: np.save(sink, mask))
        mask = np.asarray(np.load(file), np.bool_)
        if variant.name == RANDOM:
            mask = np.isin(rows, np.random.default_rng(seed).permutation(len(rows))[: mask.sum()])
        return mask


def copy_shards(source: Path, folder: Path, keys: Set[str], side: int = 0) -> None:
    """Copies the pairs of some keys into a new folder of shards.

    Args:
      side: px of the squares that the trainer makes of the images, which are then decoded once and
        not by each training; 0: the images.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for shard in sorted(source.glob("*.tar")):
        with tarfile.open(folder / shard.name, "w", format=tarfile.USTAR_FORMAT) as sink:
            for pair in read_pairs([str(shard)]):
                if pair.key not in keys:
                    continue
                image = pair.image
                # Pillow raises many kinds; the trainer leaves the image out, and says why.
                with suppress(Exception):
                    image = _square(image, side) if side else image
                for end, data in (("jpg", image), ("txt", pair.text.encode())):
                    member = tarfile.TarInfo(f"{pair.key}.{end}")
                    member.size = len(data)
                    sink.addfile(member, BytesIO(data))


def _square(image: bytes, side: int) -> bytes:
    file = BytesIO()
    Image.fromarray(decode_square(image, side)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def curate(flags: Flags, beam: Iterable[str] = ()) -> None:
    """Runs `alignset curate` with these flags and Beam's, unless its output is finished. A run that
    keeps little ends with status 1, and is finished all the same."""
    done_file = Path(str(flags["output"])) / "manifest.json"
    if not done_file.exists():
        words = [f"--{name}={value}" for name, value in flags.items()]
        command = [sys.executable, "-m", "alignset", "curate", *words, *beam]
        subprocess.run(command, stdout=sys.stderr, check=False)
    if not done_file.exists():
        raise FailedRunError(f"alignset curate --output={flags['output']} failed: see above")
