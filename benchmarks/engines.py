"""Engines compared: `benchmarks/engines.py bytes` and `benchmarks/engines.py scaling`.

bytes: the demo's corpus (8,313 pairs, 4,259 images to fetch) and a larger one (200,000 pairs, about
4,000 images) on each engine; SHA-256 over all files of the output. scaling: the seconds and the
CPU-seconds of each plane on Flink at parallelism 1 and 2.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from results import print_table
from text_corpus import write_corpus

from flink.cluster import HOST, ROOT, Cluster
from flink.runs import SETS, Corpus, cluster, demo_web, free_port, run, set_hash, wait_for

PAIRS, SCALING_PAIRS = 200_000, 4_000_000
TICKS = os.sysconf("SC_CLK_TCK")


def large_corpus(demo: Corpus, pairs: int) -> Corpus:
    """Synthetic texts; each image's URL is that of a photograph or scene that the demo serves.

    Of the texts, those of 19 and 20 words are kept, a fortieth.
    """
    path = SETS / f"pairs-{pairs}.parquet"
    if not path.exists():
        made = path.with_suffix(".made")
        write_corpus(made, pairs)
        table = pq.read_table(made)
        truth = pq.read_table(demo_folder(demo) / "truth.parquet")
        good = truth.filter(pc.is_null(truth["reason"]))["url"].unique()
        codes = table["url"].combine_chunks().dictionary_encode().indices
        served = good.take(pc.cast(pc.bit_wise_and(codes, 1023), pa.int64()))
        urls = pc.binary_join_element_wise(served, codes.cast(pa.string()), "?")
        pq.write_table(table.set_column(0, "url", urls), path, row_group_size=50_000)
        made.unlink()
    flags = ("--language=", "--min_words=19", "--max_words=20", "--samples_per_shard=500")
    evaluation = [flag for flag in demo.flags if flag.startswith("--eval_images")]
    fetching = ("--allow_private_addresses", *evaluation)
    return Corpus(path.stem, (f"--input={path}", *fetching, *flags))


def demo_folder(demo: Corpus) -> Path:
    return Path(demo.flags[0].partition("=")[2]).parent


@contextmanager
def portable_service() -> Iterator[list[str]]:
    """Beam's own portable job service, which runs jobs in its process."""
    port = free_port()
    main = "apache_beam.runners.portability.local_job_service_main"
    service = subprocess.Popen(
        [sys.executable, "-m", main, f"--port={port}"],
        **{"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL},
    )
    try:
        wait_for(port)
        yield [
            "--runner=PortableRunner",
            f"--job_endpoint={HOST}:{port}",
            "--environment_type=LOOPBACK",
        ]
    finally:
        service.terminate()
        service.wait()


def compare_bytes(demo: Corpus, flink: Cluster, portable: list[str]) -> bool:
    two = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    engines: Mapping[str, list[str]] = {
        "DirectRunner": [],
        "DirectRunner, 2 workers": two,
        "Beam's portable job service": portable,
        **{f"Flink, parallelism {n}": [*flink.flags(), f"--parallelism={n}"] for n in (1, 2, 4)},
    }
    rows, hashes = [], set()
    for corpus in (demo, large_corpus(demo, PAIRS)):
        found = []
        for name, flags in engines.items():
            output = SETS / "set"
            shutil.rmtree(output, ignore_errors=True)
            ended = run(corpus.command(output, flags), SETS / "set.log")
            found.append("failed" if ended.status else set_hash(output))
            shown = {"corpus": corpus.name, "engine": name, "s": round(ended.seconds)}
            rows.append(shown | {"SHA-256 of all files": found[-1][:16]})
            print(rows[-1], ended.last_line if ended.status else "", flush=True)
        hashes.add(len(set(found)) == 1 and "failed" not in found)
    print_table(rows)
    return hashes == {True}


def cpu_s(group: int) -> float:
    """User and system time of a process group, with what it has waited for."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) if int(fields[2]) == group else 0
    return total / TICKS


def measure_scaling(demo: Corpus, flink: Cluster, pairs: int) -> bool:
    group = flink.supervisor()
    assert group is not None
    texts = ("--language=", "--text_only")
    planes = {
        "text plane": Corpus("texts", (large_corpus(demo, pairs).flags[0], *texts)),
        "image plane": large_corpus(demo, PAIRS),
    }
    rows = []
    for plane, corpus in planes.items():
        for parallelism in (1, 2):
            output, log = SETS / "set", SETS / "set.log"
            shutil.rmtree(output, ignore_errors=True)
            flags = [*flink.flags(), f"--parallelism={parallelism}"]
            begun, wall = cpu_s(group), time.monotonic()
            ended = run(corpus.command(output, flags), log)
            spent, wall = cpu_s(group) - begun, time.monotonic() - wall
            if ended.status:
                sys.exit(ended.last_line)
            said = [line for line in log.read_text().splitlines() if line.startswith(f"{plane}: ")]
            took = float(said[0].split()[-2])
            rows.append({"plane": plane, "parallelism": parallelism, "its s": took})
            rows[-1] |= {"whole s": wall, "CPU-s of the cluster": spent, "cores": spent / wall}
            print(rows[-1], flush=True)
    print_table(rows)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["bytes", "scaling"])
    parser.add_argument("--pairs", type=int, default=SCALING_PAIRS, help="of the text plane")
    given = parser.parse_args()
    SETS.mkdir(parents=True, exist_ok=True)
    with demo_web(small=False) as demo, cluster("engines") as flink:
        if given.what == "scaling":
            return int(not measure_scaling(demo, flink, given.pairs))
        with portable_service() as portable:
            return int(not compare_bytes(demo, flink, portable))


if __name__ == "__main__":
    sys.exit(main())
