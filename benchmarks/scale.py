"""Costs of a run at 1 million, 100 million and 10 billion pairs, from measured parts.

  python benchmarks/scale.py [--price_vcpu_hour=0.05] [--connections=2500] …

`Measured` has the parts, each with the command that measured it; what is not measured is a flag,
with its default. How a run is cut up is asked of the code itself. Nothing is run here.
"""

import argparse
import sys
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from results import print_results, print_table

from alignset.pipeline.inputs.splits import ROWS_PER_SPLIT, InputFile
from alignset.pipeline.run import bucket_count
from alignset.transforms.shards.plan_shards import group_count, shard_count

SIZES = {"1 M": 10**6, "100 M": 10**8, "10 B": 10**10}
HOUR, MIB = 3600.0, 1 << 20
PACKAGES = ("apache-beam", "numpy", "numba", "pyarrow")


@dataclass(frozen=True)
class Measured:
    """Parts on 2 vCPU, Python 3.11; CPU in us a pair, sizes in bytes.

    All CPU times are from a Xeon with AVX-512. Programs that are not in this folder were run once:
    see notes.md.
    """

    # text_parts.py at 4 million
    first_reading_us: float = 1.07  # decode .27, measure .45, n-grams .12, blocks .10, rest .13
    counting_us: float = 0.14  # n-grams .06, distinct pairs .05, frequent ones .03
    # Look-ups .25, reasons and rows .18, write .49: .92 in process, and with the two others (2.13)
    # what text_stage.py has at 12.4 million: 27.1 CPU-s less 1.1 of start are 2.10. Elsewhere the
    # input is read and measured again.
    second_reading_us: float = 1.64
    cores_used: float = 1.78  # text_stage.py at 12.4 million: 27.1 CPU-s in 15.3 s on 2 cores
    start_s: float = 1.1  # text_stage.py: a run over 1000 pairs
    plan_us: float = 1.19  # group_memory.py --buckets=8 --plan: 30.0 CPU-s, without it 20.5
    element_us: float = 193.0  # group_memory.py, 8 million: 64 to 256 buckets, 187 thousand more
    language_us: float = 1.7  # found_languages on text_corpus.py, on a busy machine
    # shuffle_sizes.py of 8 million pairs without --text_only
    pair_bytes: float = 32.6  # FindDistinctPairs
    ngram_bytes: float = 31.5  # BuildVocabulary, of batches of 125,000 pairs
    count_bytes: float = 16.5  # FindFrequent
    planned_bytes: float = 132.0  # PlanShards, 598 MB over 4.52 million kept
    batch_rows: float = 125_000.0  # 64 batches
    pair_block_bytes: float = 728.0  # an element without rows: BatchCoder().encode of one
    ngram_block_bytes: float = 352.0
    # what is written, text_stage.py at 2 million, zstd
    input_bytes: float = 63.0  # text_corpus.py's Parquet
    kept_row_bytes: float = 41.0  # pairs/
    dropped_row_bytes: float = 54.0  # rejected/
    plan_row_bytes: float = 46.7  # shuffle_sizes.py, 8 million: 211 MB of the plan
    # group_memory.py: 1233 MiB with two groups of 63 MiB at once, 1427 with two of 126
    base_mib: float = 1039.0
    floor_mib: float = 1001.0  # text_stage.py: the most of 0.5 to 12.4 million pairs
    memory_per_group: float = 1.54
    vocabulary_mib: float = 1025.0  # HashSet.open of 100 M hashes: 763 mapped, 256 of index
    # web.py --urls=100000 --seed=3 --ours=--max_unsafe_score=1: 103.0 CPU-s for 95,071 images of
    # 2,400 hosts, names and connections included, start too; 541 on fetch.py's one host
    fetch_us: float = 1083.0
    # unsafe.py on a quiet machine; 17,900 beside much other work
    score_us: float = 14_000.0
    fetch_peak_mib: float = 631.0  # the same run, 10 shards


def text_stage(pairs: int, parts: Measured, flags: argparse.Namespace) -> dict[str, float]:
    """Costs of the text stage: all hours are CPU hours but `worker hours`."""
    files = [InputFile("pairs.parquet", int(pairs * parts.input_bytes), "parquet")]
    buckets = bucket_count(files)
    kept = pairs * flags.kept_by_text
    groups = group_count(int(kept), shard_count(int(kept), 10_000))
    batches = ceil(pairs / parts.batch_rows)
    blocks = batches * buckets
    plan_blocks = batches * groups
    elements = 2 * blocks + 2 * buckets**2 + plan_blocks
    payload = parts.pair_bytes + parts.ngram_bytes + parts.count_bytes
    shuffled = payload * pairs + parts.planned_bytes * kept
    # An element of few rows is mostly its frame.
    shuffled += blocks * (parts.pair_block_bytes + parts.ngram_block_bytes)
    shuffled += (2 * buckets**2) * parts.ngram_block_bytes + plan_blocks * parts.ngram_block_bytes
    passes = parts.first_reading_us + parts.counting_us + parts.second_reading_us
    passes += parts.plan_us
    cpu_s = parts.start_s + pairs * passes / 1e6
    language_s = pairs * parts.language_us / 1e6
    element_s = elements * parts.element_us / 1e6
    all_s = (cpu_s + language_s + element_s) * flags.engine_factor
    rows = pairs * parts.pair_bytes
    group_mb = (rows / buckets + batches * parts.pair_block_bytes) / 1e6
    written = kept * (parts.kept_row_bytes + parts.plan_row_bytes)
    written += (pairs - kept) * parts.dropped_row_bytes
    gb = shuffled / 1e9
    return {
        "splits": ceil(pairs / ROWS_PER_SPLIT),
        "buckets": buckets,
        "elements, millions": elements / 1e6,
        "rows a block of pairs": pairs / blocks,
        "largest element, kB": parts.planned_bytes * flags.kept_by_text * parts.batch_rows / 1e3,
        "group by pair, MB": group_mb,
        "group of n-grams, MB": pairs * parts.ngram_bytes / buckets / 1e6,
        "group of the plan, MB": kept * parts.planned_bytes / groups / 1e6,
        "CPU h: passes": cpu_s / HOUR,
        "CPU h: language": language_s / HOUR,
        "CPU h: elements": element_s / HOUR,
        "worker hours (2 vCPU)": all_s / parts.cores_used / HOUR,
        "shuffle, GB": gb,
        "written, GB": written / 1e9,
        "memory of 2 threads, MiB": memory(group_mb, 2, pairs, parts),
        "memory of 4 threads, MiB": memory(group_mb, 4, pairs, parts),
        "compute, $": 2 * all_s / parts.cores_used / HOUR * flags.price_vcpu_hour,
        "shuffle, $": gb * flags.price_shuffle_gb,
        "a month on disk, $": written / 1e9 * flags.price_gb_month,
    }


def memory(group_mb: float, threads: int, pairs: int, parts: Measured) -> float:
    """The peak of a process that counts or judges, MiB: a group a thread, or the vocabulary."""
    groups = parts.base_mib + threads * parts.memory_per_group * group_mb * 1e6 / MIB
    vocabulary = parts.vocabulary_mib * min(1.0, 0.5 * pairs / 1e8)
    return max(parts.floor_mib, groups, parts.base_mib + vocabulary)


def image_stage(pairs: int, parts: Measured, flags: argparse.Namespace) -> dict[str, float]:
    """Costs of fetching; a worker is one process of 2 vCPU."""
    fetches = pairs * flags.kept_by_text
    images = fetches * (1 - flags.failed)
    stored = images * flags.kept_by_image * (flags.image_bytes + flags.sample_bytes)
    cpu_s = images * parts.fetch_us / 1e6
    bounds = {
        "CPU": cpu_s / parts.cores_used,
        "scores": images * flags.scored * parts.score_us / 1e6 / parts.cores_used,
        "waiting": fetches * flags.seconds_a_fetch / flags.connections,
        "network": images * flags.image_bytes * 8 / (flags.mbit_s * 1e6),
    }
    # Scores are made on the same cores; all else waits beside them.
    worker_h = max(bounds["CPU"] + bounds["scores"], bounds["waiting"], bounds["network"]) / HOUR
    fetched_gb = images * flags.image_bytes / 1e9
    return {
        "shards": shard_count(int(fetches), 10_000),
        "fetches, millions": fetches / 1e6,
        "fetched, GB": fetched_gb,
        **{f"worker hours: {name}": s / HOUR for name, s in bounds.items()},
        "worker hours, the most": worker_h,
        "disk of a worker, GB": 5 * 10_000 * flags.image_bytes / 1e9,
        "memory, MiB": parts.fetch_peak_mib,
        "stored, GB": stored / 1e9,
        "compute, $": 2 * worker_h * flags.price_vcpu_hour,
        "stored for a month, $": stored / 1e9 * flags.price_gb_month,
        "network in, $": fetched_gb * flags.price_ingress_gb,
        "moved out once, $": stored / 1e9 * flags.price_egress_gb,
    }


ASSUMED = {
    "price_vcpu_hour": (0.05, "$, with its memory"),
    "price_gb_month": (0.02, "$, object storage"),
    "price_shuffle_gb": (0.011, "$, of a shuffle service; 0 where workers spill to own disks"),
    "price_ingress_gb": (0.0, "$; behind a NAT gateway that charges, say 0.045"),
    "price_egress_gb": (0.08, "$, to move the dataset out of the cloud"),
    "engine_factor": (1.5, "CPU of all over that of our code: what a runner adds"),
    "kept_by_text": (0.55, "share; 0.52 and 0.57 of the synthetic corpora"),
    "failed": (0.3, "share of fetches that bring no image"),
    "kept_by_image": (0.7, "share of images that are large enough and new"),
    "scored": (1.0, "share of images that are scored; 0 with --max_unsafe_score=1"),
    "image_bytes": (57_000.0, "of an average image; as fetch.py's photographs"),
    "sample_bytes": (3_000.0, "of tar headers, text, JSON and sidecar beside an image"),
    "seconds_a_fetch": (1.1, "0.5 of a slow host, and 10 s at each of 6%% silent"),
    "connections": (2500.0, "that a worker comes to have open of its own accord; web.py: 2,585"),
    "mbit_s": (1000.0, "network of a worker, Mbit/s"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, (default, what) in ASSUMED.items():
        parser.add_argument(f"--{name}", type=float, default=default, help=f"{what}: {default}")
    flags = parser.parse_args()
    parts = Measured()
    figures: dict[str, object] = {"benchmark": "scale", "measured": asdict(parts)}
    tables = []
    for name, cost in (("text stage", text_stage), ("image stage", image_stage)):
        by_size = {size: cost(pairs, parts, flags) for size, pairs in SIZES.items()}
        names = list(by_size["1 M"])
        tables.append([{name: n} | {size: by_size[size][n] for size in SIZES} for n in names])
        figures[name] = by_size
    print_table(tables[0])
    print()
    print_results(tables[1], figures | {"assumed": vars(flags)}, PACKAGES)


if __name__ == "__main__":
    main()
