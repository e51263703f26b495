"""A full disk, and a store that answers 500 or 503, under runs on Flink: the rest of the soak.

  python benchmarks/engine_faults.py [--only=disk | --only=store] [--seed=0]

Each at a random moment of the job of each plane. A disk that is full (a file system of its own,
hence root) stays so until the command has ended; then there is room, and the command is started
again. A store (moto's, behind a proxy) fails for a random while. Each set must have the bytes of
the one that the DirectRunner made.
"""

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flink.cluster import ROOT, Cluster
from flink.runs import SETS, Corpus, cluster, demo_web, last_line, run, set_hash
from flink.soak import MAX_STARTS, PLANES, RUN_S, Kill, running, undisturbed, wait_until
from tests.support.stores import KEYS, FaultyProxy, Store, faulty_proxy, s3_store

DISK_MIB = 64
FAILING_S = (5.0, 40.0)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system in memory."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "alignset", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Writes until nothing more fits."""
    with contextlib.suppress(OSError), ballast.open("wb", 0) as file:
        while True:
            file.write(bytes(4096))


def disturbed(
    fault: Kill, corpus: Corpus, output: str, flink: Cluster, strike: Callable[[], None]
) -> None:
    """The first start of a command, with what happens to it; how it ended is in `fault`."""
    log = SETS / "fault.log"
    command = corpus.command(Path("-"), [*flink.flags(), "--parallelism=2"])
    command = [f"--output={output}" if part == "--output=-" else part for part in command]
    begun = time.monotonic()
    with log.open("w") as sink:
        started = subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=sink)
        if wait_until(lambda: running(flink, fault.plane), started):
            time.sleep(fault.after_s)
            strike()
        status = started.wait(RUN_S)
    fault.starts, fault.said = 1, last_line(log) if status else ""
    while status and fault.starts < MAX_STARTS:
        for ballast in Path(output).parent.glob("ballast"):
            ballast.unlink()
        ended = run(command, log)
        status, fault.starts = ended.status, fault.starts + 1
    fault.seconds = time.monotonic() - begun


def disk_is_full(fault: Kill, corpus: Corpus, flink: Cluster, folder: Path) -> str:
    """The hash of the set that is made at last."""
    with small_disk(folder / f"disk-{fault.plane}") as disk:
        disturbed(fault, corpus, str(disk / "set"), flink, lambda: fill(disk / "ballast"))
        return set_hash(disk / "set")


def store_fails(
    fault: Kill, corpus: Corpus, flink: Cluster, through: tuple[FaultyProxy, Store], seconds: float
) -> str:
    """The hash of the set that is in the store at last."""
    proxy, store = through

    def strike() -> None:
        end, status = time.monotonic() + seconds, random.choice((500, 503))
        proxy.fault = lambda *_: status if time.monotonic() < end else None

    out = f"{store.root}/{fault.plane}"
    disturbed(fault, corpus, out, flink, strike)
    fault.victim += f", {seconds:.0f} s"
    got = SETS / f"store-{fault.plane}"
    shutil.rmtree(got, ignore_errors=True)
    return set_hash(store.download(out, got))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("disk", "store"), default="")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    flags = parser.parse_args()
    SETS.mkdir(parents=True, exist_ok=True)
    draw, wrong = random.Random(flags.seed), 0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        through = stack.enter_context(faulty_proxy(stack.enter_context(s3_store(folder))))
        # Workers of a pool are not told the flags.
        names = {name.upper(): value for name, value in KEYS.items()}
        os.environ |= names | {
            "AWS_ENDPOINT_URL": through[0].url,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        corpus = stack.enter_context(demo_web(small=True))
        flink = stack.enter_context(cluster("faults"))
        times = undisturbed(corpus, flink)
        for what, plane in ((what, plane) for what in ("disk", "store") for plane in PLANES):
            fault = Kill(what, plane, draw.uniform(0, times[plane]))
            seconds = draw.uniform(*FAILING_S)
            if flags.only not in what:
                continue
            if what == "disk":
                made = disk_is_full(fault, corpus, flink, folder)
            else:
                made = store_fails(fault, corpus, flink, through, seconds)
            fault.same = made == times["hash"]
            wrong += not fault.same
            print(fault.row(), flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
