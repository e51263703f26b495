"""Images from a made web of slow hosts, over HTTP, TLS and DNS: our command against img2dataset.

  python benchmarks/web.py [--urls=12000] [--web=slow|old] [--tls] [--repeats=1]
                           [--sides=ours,img2dataset,daft] [--ours=--connections=256]
                           [--samples_per_shard=10000] [--bandwidth=0] [--names_away_s=0]
                           [--distinct] [--robots_share=0] [--policy_ms=500] [--hosts=0]
                           [--one_certificate]

The web is in a network namespace of its own: thousands of addresses, a name server that takes its
time, TLS by an authority of its own, answers after a lognormal delay. Linux; needs user namespaces
(or root), `ip`, `unshare` and Go. `slow` is 2,400 hosts that answer after 0.5 s, 5% of the images
gone; `old` is what a list of some years' age is like. Each side runs as it comes, nothing decoded
by img2dataset, all by Daft (daft_fetch.py), whose number of connections is --daft_connections. The
servers' CPU is in no side's figures, but on the same cores.

Each URL's outcome is compared with its truth; what the servers saw is printed, too. Where ours lost
a good image, told a wrong outcome, asked for what a robots.txt forbids, or asked a host for more at
once or a second than its flags allow, the last line says so, and the exit status is 1. The servers
may count one too many: the client begins its next request while they note the end of the last.

The web has 400 images, and a file is scored once, so the scores of most URLs cost nothing. With
--distinct each URL's JPEG has bytes of its own. --robots_share is of the hosts: these have a
robots.txt that forbids 3% of the paths, which comes after --policy_ms, as do all hosts' answers to
such questions.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measured import Usage, check_descendants_count, run_measured
from results import print_results
from web_network import Line, WebServer, build_server, enter_network, serve_web
from web_pictures import make_pictures
from web_urls import (
    OLD,
    SLOW,
    Verdict,
    daft_outcomes,
    judged,
    make_urls,
    our_outcomes,
    their_outcomes,
    with_robots,
    write_urls,
)

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("apache-beam", "pycurl", "pycares", "img2dataset")
NAMES_GO_S = 6.0  # after the start of a side, with --names_away_s
WEBS = {"slow": SLOW, "old": OLD}
OUTCOMES = {"ours": our_outcomes, "img2dataset": their_outcomes, "daft": daft_outcomes}
# Flags of ours, and what the servers count of a host.
LIMITS = {
    "connections_per_host": (8.0, "at once of a host"),
    "requests_per_second_per_host": (0.0, "a second of a host"),
}


def command_of(side: str, listed: Path, out: Path, flags: argparse.Namespace) -> list[str]:
    """The command that fetches all of a list into a folder, as it comes."""
    if side == "ours":
        paths = [f"--input={listed}", f"--output={out}", "--language=", "--min_words=1"]
        paths.append(f"--samples_per_shard={flags.samples_per_shard}")
        return [sys.executable, str(ROOT / "beam_runner.py"), *paths, *flags.ours.split()]
    if side == "daft":
        script = str(ROOT / "benchmarks" / "daft_fetch.py")
        return [sys.executable, script, str(listed), str(out), str(flags.daft_connections)]
    theirs = {
        "url_list": listed,
        "input_format": "parquet",
        "url_col": "url",
        "caption_col": "caption",
        "output_format": "webdataset",
        "output_folder": out,
        "resize_mode": "no",
        "disable_all_reencoding": True,
        "number_sample_per_shard": flags.samples_per_shard,
    }
    module = "from img2dataset.main import main; main()"
    own = [f"--{name}={value}" for name, value in theirs.items()]
    return [sys.executable, "-c", module, *own, *flags.theirs.split()]


def fetch(
    side: str, urls: list[str], web: WebServer, folder: Path, flags: argparse.Namespace
) -> tuple[Usage, Verdict]:
    """Runs one side over the list."""
    listed, out = folder / "list.parquet", folder / "out"
    write_urls(listed, urls)
    own = folder / "authority.pem"  # without this machine's bundle
    os.environ["SSL_CERT_FILE"] = str(own if flags.one_certificate else web.trusted)
    usage = run_measured(command_of(side, listed, out, flags), folder / "log.txt")
    verdict = judged(urls, OUTCOMES[side](out))
    shutil.rmtree(out)
    return usage, verdict


def measure(side: str, flags: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run of one side on a web of its own; a row of the table."""
    pictures = make_pictures(flags.cache / f"pictures-{flags.web}", uniform=flags.web == "slow")
    web = WEBS[flags.web]
    if flags.tls:
        web = web._replace(secure=1.0)
    if flags.hosts:
        web = web._replace(hosts=flags.hosts)
    if flags.robots_share:
        web = with_robots(web, flags.robots_share)
    urls = make_urls(web, pictures.names, flags.urls, flags.seed)
    line = Line(
        bandwidth=flags.bandwidth, policy_latency_ms=flags.policy_ms, distinct=flags.distinct
    )
    with serve_web(flags.cache / "web_server", pictures.folder, folder, line) as server:
        timers = take_names_away(server, flags.names_away_s)
        usage, verdict = fetch(side, urls, server, folder, flags)
        for timer in timers:
            timer.cancel()
    print(side, json.dumps(dict(verdict.ends.most_common(12))), file=sys.stderr)
    print(side, json.dumps(server.seen), file=sys.stderr)
    if side == "ours":
        print("\n".join(verdict.examples), file=sys.stderr)
        print((folder / "log.txt").read_text()[-1500:], file=sys.stderr)
    return {
        "side": side,
        "wall s": usage.wall_s,
        "CPU s": usage.cpu_s,
        "images/s": verdict.kept / usage.wall_s,
        "CPU ms an image": 1000 * usage.cpu_s / max(1, verdict.kept),
        "peak MiB": usage.peak_mib,
        "kept": verdict.kept,
        "lost": verdict.lost,
        "wrong": verdict.wrong if side == "ours" else 0,
        "servers' CPU s": server.seen["server_cpu_s"],
        "connections": server.seen["most_connections"],
        "at once of a host": server.seen["most_at_once_of_a_host"],
        "a second of a host": server.seen["most_a_second_of_a_host"],
        "policies": server.seen["policies"],
        "disregarded": server.seen["disregarded"],
    }


def faults(rows: Sequence[Mapping[str, Any]], ours: str) -> list[str]:
    """Errors that our rows must not have.

    Args:
      ours: the flags of our command.
    """
    limits = {"lost": 0.0, "wrong": 0.0, "disregarded": 0.0}
    for flag, (default, name) in LIMITS.items():
        given = re.search(rf"--{flag}[= ]([0-9.]+)", ours)
        if limit := float(given[1]) if given else default:
            limits[name] = limit + 1
    if "--robots_txt=false" in ours:
        del limits["disregarded"]
    return [
        f"{name}: {row[name]}, where {limit:g} is the most"
        for row in rows
        if row["side"] == "ours"
        for name, limit in limits.items()
        if row[name] > limit
    ]


def take_names_away(server: WebServer, seconds: float) -> list[threading.Timer]:
    """Silences the name server a while after the start, for so long."""
    if not seconds:
        return []
    plan = {NAMES_GO_S: False, NAMES_GO_S + seconds: True}
    timers = [threading.Timer(at, server.name_server, kwargs={"up": up}) for at, up in plan.items()]
    for timer in timers:
        timer.start()
    return timers


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--urls", type=int, default=12_000)
    parser.add_argument("--web", choices=sorted(WEBS), default="slow")
    parser.add_argument("--tls", action="store_true", help="all URLs are https")
    one = "trust the web's authority alone, without the bundle of 117"
    parser.add_argument("--one_certificate", action="store_true", help=one)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sides", default="ours,img2dataset", help="in this order, by turns")
    parser.add_argument("--ours", default="", help="further flags of our command")
    parser.add_argument("--theirs", default="", help="further flags of img2dataset")
    parser.add_argument("--daft_connections", type=int, default=32, help="32: as Daft comes")
    parser.add_argument("--samples_per_shard", type=int, default=10_000)
    parser.add_argument("--bandwidth", type=float, default=0, help="bytes a second; 0: any")
    parser.add_argument("--names_away_s", type=float, default=0, help="of silence of all names")
    parser.add_argument("--distinct", action="store_true", help="no two URLs give the same JPEG")
    parser.add_argument("--hosts", type=int, default=0, help="0: as the web has them")
    parser.add_argument("--robots_share", type=float, default=0, help="of hosts, 0 to 1")
    parser.add_argument("--policy_ms", type=int, default=500, help="before a robots.txt")
    default = Path(tempfile.gettempdir()) / "alignset-benchmarks"
    parser.add_argument("--cache", type=Path, default=default, help="for images and the servers")
    return parser.parse_args()


def main() -> None:
    flags = parse()
    enter_network()
    build_server(flags.cache)
    check_descendants_count()
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # img2dataset's import else asks the network
    rows = []
    for _ in range(flags.repeats):
        for side in flags.sides.split(","):
            with tempfile.TemporaryDirectory(prefix="alignset-web-") as folder:
                rows.append(measure(side, flags, Path(folder)))
    names = (
        "web",
        "urls",
        "tls",
        "samples_per_shard",
        "ours",
        "theirs",
        "bandwidth",
        "names_away_s",
        "distinct",
        "hosts",
        "robots_share",
        "policy_ms",
        "seed",
    )
    figures = {"benchmark": "web", **{name: getattr(flags, name) for name in names}}
    packages = (*PACKAGES, "daft") if "daft" in flags.sides else PACKAGES
    print_results(rows, {**figures, "rows": rows}, packages)
    if faulty := faults(rows, flags.ours):
        raise SystemExit("\n".join(faulty))


if __name__ == "__main__":
    main()
