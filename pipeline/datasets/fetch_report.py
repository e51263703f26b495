"""What failed to be fetched, and where, with a hint that a person can act on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import UNSET, UnsetType

from alignset.pipeline.runs.documents import Connections, FetchReport, OptOuts, Settings
from alignset.pipeline.runs.work_folder import ImageSummary
from alignset.transforms.rules.given import FETCH_FAILED, OPTED_OUT
from alignset.transforms.shards.shard_stats import FailingHost

_LEAST_SHARE = 0.02  # of all that was tried: a detail that is rarer gets no hint
# By the beginning of the detail; the first that fits.
HINTS = {
    "dns": "is the resolver rate limiting? A local caching one helps",
    "refused": "hosts that are gone, or that refuse this machine",
    "unreachable": "has this machine a route, IPv6 among them?",
    "tls": "certificates that no browser would take, or an old CA bundle here",
    "timeout": "fewer --connections, or a longer --timeout_s, for a slow line",
    "reset": "hosts that hang up: fewer --connections_per_host",
    "cut_off": "hosts that hang up: fewer --connections_per_host",
    "too_large": "a larger --max_image_bytes, if such images are wanted",
    "forbidden_address": "private addresses, left alone without --allow_private_addresses",
    "no_robots_txt": "hosts whose robots.txt cannot be had just now: --retry_failed later",
    "deadline": "shards took too long: a longer --shard_timeout_s",
    "http_403": "hosts that refuse robots: give a --contact; do not press",
    "http_404": "images that are gone",
    "http_410": "images that are gone",
    "http_429": "too fast: a lower --requests_per_second_per_host",
    "http_5": "hosts in trouble: try again later",
}


def failed_fetches(
    tried: int, statuses: Mapping[str, int], hosts: list[FailingHost]
) -> FetchReport:
    """What funnel.json says of fetching.

    Args:
      tried: how many there were. statuses: all shards' `status_dict`, added up.
      hosts: those with the most failures.
    """
    details = details_of(FETCH_FAILED, statuses)
    return FetchReport(tried, details.total(), _most_first(details), hosts)


def opt_outs(
    fetch: Settings, images: ImageSummary, *others: Mapping[str, int]
) -> OptOuts | UnsetType:
    """What funnel.json says of the wishes of owners; nothing where none was met.

    Args:
      fetch: the settings. images: what the image plane has counted.
      others: counts by detail, of pages or of earlier runs.
    """
    details = details_of(OPTED_OUT, images.statuses)
    for counts in (images.reported, *others):
        details.update(counts)
    return OptOuts(str(fetch["unwished"]), _most_first(details)) if details else UNSET


def details_of(reason: str, statuses: Mapping[str, int]) -> Counter[str]:
    """How many pairs were dropped for a reason, by detail, as a `status_dict` tells."""
    ends = ((status.partition(": "), count) for status, count in statuses.items())
    return Counter({detail: count for (of, _, detail), count in ends if of == reason})


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def render_opt_outs(opted_out: OptOuts) -> str:
    """One line on what owners do not want used."""
    became = "dropped" if opted_out.unwished == "reject" else "kept, with it in `opted_out`"
    told = ", ".join(f"{detail} {count:,}" for detail, count in opted_out.details.items())
    return f"not wanted by its owner, {became}: {told}; see docs/opt_outs.md"


def render_connections(connections: Connections) -> str:
    """As "at most 1,024 connections at once in a worker; limited by CPU (9 shards), hosts (1)"."""
    most = f"at most {connections.most:,} connections at once in a worker"
    limits = _most_first(connections.limits)
    named = [(what, n) for what, n in limits.items() if what != "rising"]
    if not named:
        return f"{most}; nothing limited them"
    (first, count), *others = named
    shards = f"{first} ({count:,} shard{'' if count == 1 else 's'})"
    return f"{most}; limited by " + ", ".join([shards, *(f"{what} ({n:,})" for what, n in others)])


def hint_of(detail: str) -> str:
    """What may be behind this detail, and what to do; "" where nobody can do anything."""
    return next((hint for begin, hint in HINTS.items() if detail.startswith(begin)), "")


def render_failed(fetch: FetchReport) -> str:
    """The failures as a table; "" where nothing failed."""
    tried, failed = fetch.tried, fetch.failed
    if not failed:
        return ""
    lines = [f"{failed:,} of {tried:,} fetches failed ({failed / tried:.1%}); see docs/fetching.md"]
    for detail, count in fetch.details.items():
        hint = hint_of(detail) if count >= _LEAST_SHARE * tried else ""
        lines.append(f"  {detail:<20}{count:>11,}{count / tried:>8.1%}  {hint}".rstrip())
    lines.append("hosts with the most failures")
    for host in fetch.hosts:
        most = ", ".join(f"{name} {count:,}" for name, count in [*host.details.items()][:3])
        shown = "".join(c if c.isprintable() else "?" for c in host.host)[:48]
        lines.append(f"  {shown:<48}{host.failed:>11,}  {most}")
    return "\n".join(lines)
