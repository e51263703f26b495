"""Engines compared: `benchmarks/engines.py bytes` and `benchmarks/engines.py scaling`.

bytes: the demo's corpus (8,313 pairs, 4,259 images to fetch) and a larger one (200,000 pairs, about
4,000 images) on each engine; SHA-256 over all files of the output. scaling: the seconds and the
CPU-seconds that further pairs take in each plane on Flink at parallelism 1 and 2; the images come
from an nginx that takes a second for each.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from photo_server import make_photos, serve, write_list
from results import print_table
from text_corpus import write_corpus

from flink.cluster import HOST, ROOT, Cluster
from flink.runs import SETS, Corpus, cluster, demo_web, free_port, run, set_hash, wait_for

PAIRS = 200_000
COUNTS = {"text plane": (1_000_000, 8_000_000), "image plane": (1_000, 9_000)}
PHOTOS, RATE = 400, 50_000  # bytes a second: a photograph of 57 kB takes a second, as on the web
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
    fetching = ("--allow_private_addresses", "--max_unsafe_score=1", *evaluation)
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


def compare_bytes(demo: Corpus, flink: Cluster, portable: list[str], only: str) -> bool:
    two = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    engines: Mapping[str, list[str]] = {
        "DirectRunner": [],
        "DirectRunner, 2 workers": two,
        "Beam's portable job service": portable,
        **{f"Flink, parallelism {n}": [*flink.flags(), f"--parallelism={n}"] for n in (1, 2, 4)},
    }
    rows, hashes = [], set()
    for corpus in (demo, large_corpus(demo, PAIRS)):
        set_hashes = []
        for name, flags in engines.items():
            if only not in f"{corpus.name}, {name}":
                continue
            output = SETS / "set"
            shutil.rmtree(output, ignore_errors=True)
            ended = run(corpus.command(output, flags), SETS / "set.log")
            set_hashes.append("failed" if ended.status else set_hash(output))
            shown = {"corpus": corpus.name, "engine": name, "s": round(ended.seconds)}
            rows.append(shown | {"SHA-256 of all files": set_hashes[-1][:16]})
            print(rows[-1], ended.last_line if ended.status else "", flush=True)
        hashes.add(len(set(set_hashes)) <= 1 and "failed" not in set_hashes)
    print_table(rows)
    return hashes == {True}


def cpu_s(group: int) -> Counter[str]:
    """User and system seconds of a process group, with what it has waited for: Java's, Python's."""
    seconds: Counter[str] = Counter()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = stat.read_text().rpartition(")")
        except OSError:
            continue
        fields = tail.split()
        if int(fields[2]) == group:
            who = "Java" if head.endswith("(java") else "Python"
            seconds[who] += sum(map(int, fields[11:15])) / TICKS
    return seconds


@contextmanager
def scaling_corpora(plane: str) -> Iterator[list[Corpus]]:
    """The smaller and the larger corpus of a plane."""
    few, many = COUNTS[plane]
    keep_all = ("--language=", "--min_words=1")
    with tempfile.TemporaryDirectory(prefix="alignset-scaling-") as name:
        folder, corpora = Path(name), []
        photos = Path(tempfile.gettempdir()) / "alignset-benchmarks" / "photos"
        if plane == "image plane":
            make_photos(photos, PHOTOS)
        with serve(photos, folder, rate=RATE) if plane == "image plane" else nullcontext("") as url:
            for count in (few, many):
                path = folder / f"{count}.parquet"
                if url:
                    write_list(path, url, [f"{n}.jpg" for n in range(PHOTOS)], count)
                    connections = ("--connections=128", "--connections_per_host=128")
                    flags = ("--allow_private_addresses", "--max_unsafe_score=1")
                    flags = (*flags, "--samples_per_shard=500", *connections)
                else:
                    write_corpus(path, count)
                    flags = ("--text_only",)
                corpora.append(Corpus(plane, (f"--input={path}", *keep_all, *flags)))
            yield corpora


def plane_seconds(corpus: Corpus, flink: Cluster, parallelism: int) -> Counter[str]:
    """What a plane takes: its wall seconds, and CPU-seconds of the cluster."""
    group = flink.supervisor()
    assert group is not None
    output, log = SETS / "set", SETS / "set.log"
    shutil.rmtree(output, ignore_errors=True)
    before = cpu_s(group)
    ended = run(corpus.command(output, [*flink.flags(), f"--parallelism={parallelism}"]), log)
    if ended.status:
        sys.exit(ended.last_line)
    lines = log.read_text().splitlines()
    (said,) = (line for line in lines if line.startswith(f"{corpus.name}: "))
    return Counter(wall=float(said.split()[-2])) + (cpu_s(group) - before)


def hold_workers(flink: Cluster, cores: int) -> None:
    """Keeps the pool of Python workers, and all that it starts, on the first cores."""
    for task in Path(f"/proc/{flink.pids('workers')[0]}/task").iterdir():
        os.sched_setaffinity(int(task.name), range(cores))


def measure_scaling(flink: Cluster, only: str) -> None:
    """What further pairs cost at parallelism 1, with one core for Python and with both, and 2."""
    rows = []
    for plane in [plane for plane in COUNTS if only in plane]:
        with scaling_corpora(plane) as corpora:
            plane_seconds(corpora[0], flink, 1)  # not counted: Java compiles what runs often
            for parallelism, cores in ((1, 1), (1, 2), (2, 2)):
                hold_workers(flink, cores)
                few, many = (plane_seconds(corpus, flink, parallelism) for corpus in corpora)
                row = {"plane": plane, "parallelism": parallelism, "cores of Python": cores}
                row |= {"few, s": few["wall"], "many, s": many["wall"]}
                more = {name: many[name] - few[name] for name in ("wall", "Python", "Java")}
                row |= {f"more: {name} s": seconds for name, seconds in more.items()}
                rows.append(row)
                print(row, flush=True)
    print_table(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["bytes", "scaling"])
    parser.add_argument(
        "--only", default="", help='bytes: what has this in "CORPUS, ENGINE"; scaling: in the plane'
    )
    flags = parser.parse_args()
    SETS.mkdir(parents=True, exist_ok=True)
    if flags.what == "scaling":
        with cluster("scaling") as flink:
            measure_scaling(flink, flags.only)
        return 0
    web, service = demo_web(small=False), portable_service()
    with web as demo, cluster("engines") as flink, service as portable:
        return int(not compare_bytes(demo, flink, portable, flags.only))


if __name__ == "__main__":
    sys.exit(main())
