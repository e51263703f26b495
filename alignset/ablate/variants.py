"""What is compared: the pairs that each choice of rules keeps of one pool.

The pool has every pair whose image arrived, measured, without copies of evaluation images. A
variant is `alignset curate` on the pool with other flags: nothing is fetched again. NSFW scores,
the dearest part of a run, come from the pool.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from PIL import Image

from alignset.pipeline.errors import FailedRunError, UsageError
from alignset.train.data.images import decode_square, parts_by_pixels
from alignset.train.data.samples import ShardPair, read_pairs
from alignset.transforms.rules.catalogue import PRODUCT
from alignset.transforms.rules.unsafe import MAX_UNSAFE_SCORE

Bools = npt.NDArray[np.bool_]
Flags = Mapping[str, object]
RAW, RANDOM, ALL, WITHOUT = "raw", "random", "all", "without-"
_COLUMNS = ["key", "caption", "phash", "unsafe_score"]
_LARGEST_SQUARE = 128  # px; a larger one would take more space than the image
_SHOWN_LINES = 8  # of a failed command's log
# A variant's dataset is read once and removed, so its run needs no thumbnails, scores or lines.
_BARE = {"thumbnails": 0, MAX_UNSAFE_SCORE.name: MAX_UNSAFE_SCORE.opened, "quiet": True}


def _any_pair(pool: pa.Table, mask: Bools) -> Bools:
    return mask


@dataclass(frozen=True)
class Variant:
    """A choice of rules.

    Attributes:
      flags: of `alignset curate` on the pool; None keeps the whole pool.
      max_unsafe_score: the largest NSFW score that is kept.
      choose: which pairs of the pool (bool[n]) stay, given those that the rules keep.
      about: what the table says of it.
    """

    name: str
    about: str
    flags: Flags | None = None
    max_unsafe_score: float = 1.0
    choose: Callable[[pa.Table, Bools], Bools] = field(default=_any_pair)

    def run_flags(self, out: Path) -> Flags:
        """Those of the run in the folder of an ablation."""
        places = {"input": out / "pool", "output": out / "variants" / self.name}
        return {**places, **(self.flags or {}), **_BARE}


def _datacomp_texts(pool: pa.Table, mask: Bools) -> Bools:
    return mask & _lengths(pool, 6, None)


def _coyo_pairs(pool: pa.Table, mask: Bools) -> Bools:
    mask = mask & _lengths(pool, 5, 1000)
    rows = np.flatnonzero(mask)
    candidates = pool.select(["phash", "caption"]).take(rows).append_column("row", pa.array(rows))
    firsts = candidates.group_by(["phash", "caption"]).aggregate([("row", "min")])["row_min"]
    unique = np.zeros(len(mask), np.bool_)
    unique[firsts.to_numpy()] = True
    return unique


def _lengths(pool: pa.Table, least: int, most: int | None) -> Bools:
    lengths = pc.utf8_length(pool["caption"]).to_numpy()
    return (lengths >= least) & (lengths <= (most or np.inf))


_SIZES = {"min_image_side": 200, "max_image_aspect": 3.0}
_ENGLISH = {**PRODUCT.opened, "language": "en", "min_words": 3}
# Source: Gadre et al. 2023, section 4 ("basic filtering"), and the data card of COYO-700M. Our
# detector tells English in both. COYO's rules on nouns, bad words and bytes of a file are left out.
BASELINES = (
    Variant(
        "datacomp-basic",
        "DataComp's basic filter: English, more than 2 words and 5 characters, sizes",
        _ENGLISH | _SIZES,
        choose=_datacomp_texts,
    ),
    Variant(
        "coyo",
        "COYO's filter: English, 3 to 256 words, texts on 10 images at most, sizes, NSFW, equal "
        "pHash and text once",
        _ENGLISH | _SIZES | {"max_words": 256, "max_images_per_text": 10},
        max_unsafe_score=0.5,
        choose=_coyo_pairs,
    ),
)


def variants_of(
    flags: Flags, open_values: Flags, max_unsafe_score: float, together: Mapping[str, Sequence[str]]
) -> list[Variant]:
    """Makes the list of what is compared.

    Args:
      flags: the flags of rules that were given.
      open_values: of each rule that is on, by its flag, the value with which it drops nothing.
      max_unsafe_score: the threshold of the run.
      together: the flags that are of no use without another, by that one.
    """
    score = MAX_UNSAFE_SCORE.name
    variants = [
        Variant(RAW, "every pair of the pool"),
        Variant(RANDOM, "a random part of the pool, as large as what all rules keep"),
        Variant(ALL, "all rules", flags, max_unsafe_score),
    ]
    for name, value in open_values.items():
        others = {of: setting for of, setting in flags.items() if of not in together.get(name, ())}
        others[name] = value
        limit = 1.0 if name == score else max_unsafe_score
        variants.append(Variant(f"{WITHOUT}{name}", f"all rules but --{name}", others, limit))
    return [*variants, *BASELINES]


class Pool:
    """The measured pairs, in the order of their shards, and what variants keep of them.

    Args:
      out: the folder of the ablation; `out/pool` is finished.

    Raises:
      UsageError: nothing is in it.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        tables = sorted((out / "pool/shards").glob("*.parquet"))
        if not tables:
            raise UsageError(f"the pool is empty; {out}/pool/report.html says why")
        self.pairs = ds.dataset(tables).to_table(_COLUMNS)
        (out / "variants").mkdir(exist_ok=True)

    def mask(self, variant: Variant, seed: int = 0) -> Bools:
        """Finds which pairs a variant keeps, bool[n]; what was found before is read."""
        if variant.name == RANDOM:
            return self._random_mask(seed)
        file = self.out / f"variants/{variant.name}.npy"
        if not file.exists():
            part = file.with_suffix(".part.npy")
            np.save(part, self._rule_mask(variant))
            part.rename(file)
        return np.asarray(np.load(file), np.bool_)

    def _random_mask(self, seed: int) -> Bools:
        count = int(self.mask(Variant(ALL, "")).sum())
        order = np.random.default_rng(seed).permutation(len(self.pairs))
        mask = np.zeros(len(self.pairs), np.bool_)
        mask[order[:count]] = True
        return mask

    def _rule_mask(self, variant: Variant) -> Bools:
        mask = np.ones(len(self.pairs), np.bool_)
        if variant.flags is not None:
            mask &= self.kept_by_rules(variant)
            scores = pc.fill_null(self.pairs["unsafe_score"], 0).to_numpy()
            mask &= scores <= variant.max_unsafe_score
        return variant.choose(self.pairs, mask)

    def kept_by_rules(self, variant: Variant) -> Bools:
        """Runs `alignset curate` with its flags; bool[n]."""
        folder = self.out / f"variants/{variant.name}"
        flags = variant.run_flags(self.out)
        # A run that keeps little ends with status 1, and is finished all the same.
        curate(flags, self.out / f"logs/{variant.name}.log", done_file=folder / "manifest.json")
        tables = (folder / "shards").glob("*.parquet")  # none where nothing is kept
        keys = [pq.read_table(table, columns=["key"])["key"].to_pylist() for table in tables]
        shutil.copy(folder / "funnel.json", folder.with_suffix(".funnel.json"))
        shutil.rmtree(folder)
        value_set = pa.array([key for of_table in keys for key in of_table], pa.string())
        return np.asarray(pc.is_in(self.pairs["key"], value_set).to_numpy(), np.bool_)

    def write_shards(self, mask: Bools, folder: Path, side: int) -> None:
        """Writes the kept pairs as shards to train on; what a killed call left is replaced.

        Args:
          side: px, the side of the squares to which the trainer resizes images.
        """
        keys = set(self.pairs["key"].filter(pa.array(mask)).to_pylist())
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for shard in sorted(self._to_train_on(side).glob("*.tar")):
            pairs = (pair for pair in read_pairs([str(shard)]) if pair.key in keys)
            _write_shard(folder / shard.name, pairs)

    def _to_train_on(self, side: int) -> Path:
        """The folder of the pool's shards, with small squares as the trainer makes them of the
        images, so that these are decoded once and not by each training."""
        if side > _LARGEST_SQUARE:
            return self.out / "pool/shards"
        folder = self.out / f"pool-{side}px"
        if not folder.exists():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            with ThreadPoolExecutor() as threads:
                for shard in sorted((self.out / "pool/shards").glob("*.tar")):
                    parts = parts_by_pixels(read_pairs([str(shard)]), 64, lambda pair: pair.image)
                    squares = (threads.map(partial(_square, side), pairs) for pairs in parts)
                    _write_shard(part / shard.name, chain.from_iterable(squares))
            part.rename(folder)
        return folder


def _square(side: int, pair: ShardPair) -> ShardPair:
    try:
        square = Image.fromarray(decode_square(pair.image, side))
    except Exception:  # Pillow raises many kinds; the trainer leaves the image out, and says why
        return pair
    file = BytesIO()
    square.save(file, "PNG", compress_level=1)
    return pair._replace(image=file.getvalue())


def _write_shard(path: Path, pairs: Iterable[ShardPair]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as sink:
        for pair in pairs:
            for end, data in (("jpg", pair.image), ("txt", pair.text.encode())):
                member = tarfile.TarInfo(f"{pair.key}.{end}")
                member.size = len(data)
                sink.addfile(member, BytesIO(data))


def curate_words(flags: Flags) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]


def curate(flags: Flags, log: Path | None, done_file: Path, beam: Sequence[str] = ()) -> None:
    """Runs `alignset curate`, unless it has run.

    Args:
      beam: words of flags of Beam.
      log: the file for what it says; None: it says it here.
      done_file: the file that is there when it has run.

    Raises:
      FailedRunError: with the end of what it said.
    """
    if done_file.exists():
        return
    command = [sys.executable, "-m", "alignset", "curate", *curate_words(flags), *beam]
    if log is None:
        subprocess.run(command, stdout=sys.stderr, check=False)
    else:
        with open(log, "w") as sink:
            subprocess.run(command, stdout=sink, stderr=sink, check=False)
    if not done_file.exists():
        lines = log.read_text(errors="replace").splitlines() if log else ["see above"]
        raise FailedRunError("alignset curate failed: " + "\n".join(lines[-_SHOWN_LINES:]))
