"""The command against a hostile internet, in a network of its own on this machine.

  python -m tests.support.hostile_run [--answers=10000] [--seed=1]

Linux; needs user namespaces (or root), `ip` and `openssl`. Names, addresses, ports 53, 80 and 443
are real within the namespace, and nothing of it can be reached from outside or the reverse.
Prints one line a finding and ends with 1 where there is one.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.hostile_answers import KEPT, KINDS, MAX_BYTES, good_files, zeros
from tests.support.hostile_web import PRIVATE, PUBLIC, HostileWeb
from tests.support.root import ROOT

INSIDE = "ALIGNSET_HOSTILE_NETWORK"
MAX_MIB = 1200
FLAGS = (
    *("--language=", "--min_words=1", "--min_image_side=50", f"--max_image_bytes={MAX_BYTES}"),
    *("--timeout_s=12", "--idle_timeout_s=8", "--connect_timeout_s=12", "--retries=1"),
    *("--max_retry_after_s=2", "--connections_per_host=32", "--samples_per_shard=2500"),
    "--max_unsafe_score=1",  # what is timed here are answers; scores would take both cores
)
USUAL = sorted(KINDS.keys() - {"rebinding"})
# By the host's name, whatever the path: what is right then.
NAMES = {
    "nx": {"dns"},
    "servfail": {"dns"},
    "silent": {"dns", "timeout"},
    "loop": {"dns"},
    "empty": {"dns"},
    "private": {"forbidden_address"},
    "mapped": {"forbidden_address"},
    "mixed": {KEPT, "forbidden_address"},
}


def one_url(random: Random) -> str:
    """A URL of the hostile internet; a third of the answers are honest, in between."""
    seed, host = random.randrange(2**40), f"h{random.randrange(100)}.hostile.test"
    way = random.randrange(25)
    if way < 14:
        return f"http://{host}/{random.choice(USUAL)}/{seed}"
    if way < 21:
        return f"http://{host}/honest/{seed}"
    if way == 21:
        return f"https://{host}/honest/{seed}"
    if way == 22:
        return f"http://rebind-{seed}.hostile.test/rebinding/{seed}"
    if way == 23:
        return f"http://{random.choice(sorted(NAMES))}-{seed}.hostile.test/honest/{seed}"
    address = random.choice(PRIVATE)
    return f"http://{f'[{address}]' if ':' in address else address}/secret/{seed}"


def right_outcomes(url: str) -> set[str]:
    """What may come of a URL."""
    host, kind = url.split("/")[2], url.split("/")[3]
    if url.startswith("https"):
        # The certificate is by nobody that is trusted, and for h1 alone; a name is compared first.
        certified = "tls_unknown_issuer" if host.startswith("h1.") else "tls_wrong_name"
        return {certified, "tls", "timeout", "reset", "bad_answer"}
    if kind == "secret":
        return {"forbidden_address"}
    return NAMES.get(host.split("-")[0]) or set(KINDS[kind].right)


def outcomes(out: Path) -> Iterator[tuple[str, str]]:
    """(URL, outcome) of every row of the dataset."""
    for path in out.glob("shards/*.parquet"):
        yield from ((url, KEPT) for url in pq.read_table(path)["url"].to_pylist())
    for path in out.glob("rejected/*.parquet"):
        for row in pq.read_table(path).to_pylist():
            yield row["url"], row["detail"] or row["reason"]


def findings(listed: list[str], out: Path) -> Iterator[str]:
    """What is not as it should be."""
    by_url = defaultdict(list)
    for url, outcome in outcomes(out):
        by_url[url].append(outcome)
    if sorted(by_url) != sorted(listed):
        yield f"{len(listed)} URLs were listed, {len(by_url)} came out"
    for url, ends in by_url.items():
        if len(ends) != 1 or ends[0] not in right_outcomes(url):
            yield f"{url} came out as {ends}, not one of {sorted(right_outcomes(url))}"
    steps = json.loads((out / "funnel.json").read_text())["steps"]
    if (steps[0]["seen"], steps[-1]["kept"]) != (
        len(listed),
        sum(ends == [KEPT] for ends in by_url.values()),
    ):
        yield "funnel.json counts other rows"
    by_end = Counter(end for ends in by_url.values() for end in ends)
    print(json.dumps(dict(by_end.most_common())))


def run(count: int, seed: int, folder: Path) -> Iterator[str]:
    """Runs the command over `count` answers; yields what is not as it should be."""
    listed = [one_url(random) for random in [Random(seed)] for _ in range(count)]
    names = [f"image number {n}" for n in range(len(listed))]
    pq.write_table(pa.table({"url": listed, "caption": names}), folder / "pairs.parquet")
    certificate = folder / "certificate.pem"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=h1.hostile.test -keyout"
    both = [str(certificate), "-out", f"{certificate}.crt"]
    subprocess.run([*made.split(), *both], check=True, capture_output=True)
    with certificate.open("a") as joined:
        joined.write(Path(f"{certificate}.crt").read_text())

    good_files(), zeros(10**8, 1)  # made now: nobody waits for them later
    web, loop = HostileWeb(certificate), asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(web.start())
    threading.Thread(target=loop.run_forever, daemon=True).start()

    # A shard's deadline, and what reading, decoding and writing take beside it.
    deadline_s = 90 + count / 20
    out = folder / "set"
    flags = [f"--input={folder / 'pairs.parquet'}", f"--output={out}", *FLAGS]
    command = [sys.executable, "beam_runner.py", *flags, f"--shard_timeout_s={deadline_s / 2:.0f}"]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, check=False)
    took_s = time.monotonic() - began
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{len(listed)} answers in {took_s:.1f} s, peak {peak_mib:.0f} MiB")
    if done.returncode:
        yield f"exit status {done.returncode}"
        return
    if peak_mib > MAX_MIB:
        yield f"the run took {peak_mib:.0f} MiB, more than {MAX_MIB}"
    yield from web.told
    yield from findings(listed, out)


def enter_network() -> None:
    """Goes on in a network namespace whose loopback has all the addresses, and whose resolver is
    the hostile one."""
    if os.environ.get(INSIDE):
        return
    addresses = "; ".join(
        f"ip addr add {a}/{128 if ':' in a else 32} dev lo"
        for a in (*PUBLIC, *PRIVATE)
        if a != "::1"  # which it has
    )
    resolver = "printf 'nameserver 127.0.0.1\\noptions timeout:3 attempts:2\\n' > $RESOLV"
    mount = "mount --bind $RESOLV /etc/resolv.conf"
    script = f'ip link set lo up; {addresses}; {resolver}; {mount} && exec "$@"'
    command = [sys.executable, "-m", "tests.support.hostile_run", *sys.argv[1:]]
    again = ["bash", "-c", script, "bash", *command]
    with tempfile.NamedTemporaryFile() as file:
        environment = os.environ | {INSIDE: "1", "RESOLV": file.name}
        ended = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--net", "--mount", *again],
            env=environment,
            check=False,
        )
    sys.exit(ended.returncode)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    enter_network()
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        wrong = list(run(flags.answers, flags.seed, Path(folder)))
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
