"""URLs of a made web whose hosts and paths say what becomes of them, and what became of each."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

KEPT = "kept"
IDLE_MS = 10_000  # our default of --idle_timeout_s
# What is right for a host, by the first label of its name, else for the first part of a path.
RIGHT_OF_HOST = {
    "gone": {"dns"},
    "servfail": {"dns"},
    "quiet": {"timeout"},
    "silent": {"timeout"},
    "expired": {"tls_expired"},
    "wrongname": {"tls_wrong_name"},
    "unknown": {"tls_unknown_issuer"},
}
RIGHT_OF_PATH = {
    "ok": {KEPT},
    "private": {KEPT},
    "404": {"http_404"},
    "503": {"http_503"},
    "429": {"http_429"},
    "reset": {"reset"},
    "cut": {"cut_off"},
    "drip": {"timeout"},
}
# A path that robots.txt forbids, on hosts that have one; on others it is good.
WITH_ROBOTS, PRIVATE, PRIVATE_SHARE = "robots", "private", 0.03


class Web(NamedTuple):
    """Properties of a web.

    Fields:
      hosts: how many. zipf: the exponent of their shares; 0: all have as many URLs.
      latency_s, sigma: mean and spread of an answer's lognormal delay.
      of_hosts, of_paths: shares of the kinds that fail; the rest is good.
      secure: the share of URLs that are https.
    """

    hosts: int
    zipf: float
    latency_s: float
    sigma: float
    of_hosts: dict[str, float]
    of_paths: dict[str, float]
    secure: float


# The web of the table by which the goals were set: slow hosts, and few failures.
SLOW = Web(2400, 0.0, 0.5, 0.8, {}, {"404": 0.05}, 0.0)
# What a list of some years' age is like.
OLD = Web(
    20_000,
    0.5,
    0.5,
    0.8,
    {"gone": 0.10, "silent": 0.05, "servfail": 0.01, "quiet": 0.01, "expired": 0.01}
    | {"wrongname": 0.01, "unknown": 0.01},
    {"404": 0.12, "reset": 0.03},
    0.7,
)


def with_robots(web: Web, share: float) -> Web:
    """The same with a robots.txt on a share of its hosts, which forbids a share of all paths."""
    return web._replace(
        of_hosts=web.of_hosts | {WITH_ROBOTS: share},
        of_paths=web.of_paths | {PRIVATE: PRIVATE_SHARE},
    )


def _kinds(
    random: np.random.Generator, count: int, shares: dict[str, float], rest: str
) -> list[str]:
    names = [*shares, rest]
    weights = [*shares.values(), 1 - sum(shares.values())]
    return [names[n] for n in random.choice(len(names), count, p=weights)]


def make_urls(web: Web, files: Sequence[str], count: int, seed: int) -> list[str]:
    """`count` different URLs of a web, the same for the same seed.

    Args:
      files: names of the images, taken in turn.
    """
    random = np.random.default_rng(seed)
    hosts = [
        f"{kind}-{n}.web.test"
        for n, kind in enumerate(_kinds(random, web.hosts, web.of_hosts, "h"))
    ]
    secure = random.random(web.hosts) < web.secure
    shares = np.arange(1, web.hosts + 1, dtype=np.float64) ** -web.zipf
    if web.zipf:
        of_host = random.choice(web.hosts, count, p=random.permutation(shares / shares.sum()))
    else:
        of_host = random.permutation(np.arange(count) % web.hosts)
    paths = _kinds(random, count, web.of_paths, "ok")
    median_ms = 1000 * web.latency_s * np.exp(-(web.sigma**2) / 2)
    delays_ms = (
        random.lognormal(np.log(median_ms), web.sigma, count) if web.latency_s else [0] * count
    )
    return [
        f"http{'s' if only_tls(hosts[host]) or secure[host] else ''}://{hosts[host]}/{path}/"
        f"{files[n % len(files)]}?d={delay:.0f}&n={n}"
        for n, (host, path, delay) in enumerate(zip(of_host, paths, delays_ms, strict=True))
    ]


def only_tls(host: str) -> bool:
    return host.split("-")[0] in ("expired", "wrongname", "unknown")


def write_urls(path: Path, urls: Sequence[str]) -> None:
    """A Parquet list with different alt-texts."""
    captions = [f"photograph number {n} of the benchmark" for n in range(len(urls))]
    pq.write_table(pa.table({"url": urls, "caption": captions}), path)


def right_outcomes(url: str) -> set[str]:
    """Possible outcomes of a URL; the host's behaviour goes before the path's. A host that is
    silent for longer than --idle_timeout_s may be given up."""
    _, _, host, path, *_ = url.split("/")
    delay_ms = int(url.partition("?d=")[2].partition("&")[0])
    late = {"timeout"} if delay_ms > IDLE_MS else set()
    kind = host.split("-")[0]
    if path == PRIVATE and kind == WITH_ROBOTS:
        return {"robots_txt"}
    return (RIGHT_OF_HOST.get(kind) or RIGHT_OF_PATH[path]) | late


def our_outcomes(out: Path) -> Iterator[tuple[str, str]]:
    """(URL, KEPT or why not) of each row of our set."""
    for path in out.glob("shards/*.parquet"):
        yield from ((url, KEPT) for url in pq.read_table(path)["url"].to_pylist())
    for path in out.glob("rejected/*.parquet"):
        for row in pq.read_table(path, columns=["url", "reason", "detail"]).to_pylist():
            yield row["url"], row["detail"] or row["reason"]


def their_outcomes(out: Path) -> Iterator[tuple[str, str]]:
    """(URL, KEPT or what is said of it) of each row of img2dataset's shards."""
    for path in out.glob("*.parquet"):
        for row in pq.read_table(path, columns=["url", "status", "error_message"]).to_pylist():
            yield row["url"], KEPT if row["status"] == "success" else row["error_message"]


def daft_outcomes(out: Path) -> Iterator[tuple[str, str]]:
    """(URL, KEPT) of each row that Daft wrote: of the others it says nothing."""
    for path in out.glob("*.parquet"):
        yield from ((url, KEPT) for url in pq.read_table(path)["url"].to_pylist())


class Verdict(NamedTuple):
    """How a side's outcomes compare with the truth.

    Fields:
      kept: images. lost: good ones that are not kept. wrong: rows that no truth allows, or that are
        missing or twice there; with some of them, to be shown.
      ends: how often each outcome came.
    """

    kept: int
    lost: int
    wrong: int
    examples: list[str]
    ends: Counter[str]


def judged(urls: Sequence[str], outcomes: Iterator[tuple[str, str]]) -> Verdict:
    """Compares URL by URL."""
    of_url: dict[str, list[str]] = {url: [] for url in urls}
    for url, outcome in outcomes:
        of_url.setdefault(url, []).append(outcome)
    wrong = [
        f"{url}: {ends}"
        for url, ends in of_url.items()
        if len(ends) != 1 or ends[0] not in right_outcomes(url)
    ]
    kept = sum(ends == [KEPT] for ends in of_url.values())
    lost = sum(right_outcomes(url) == {KEPT} and of_url[url] != [KEPT] for url in urls)
    ends = Counter(end for all_ends in of_url.values() for end in all_ends)
    return Verdict(kept, lost, len(wrong), wrong[:5], ends)
