"""What the card, the datasheet and the Croissant file say alike of a set, in plain words."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter

from msgspec import UnsetType

from alignset.pipeline.datasets.history import all_stages
from alignset.pipeline.datasets.sizes_and_days import as_code
from alignset.pipeline.documents.earlier_rules import (
    Earlier,
    earlier_fetches,
    earlier_scores,
    with_images,
)
from alignset.pipeline.runs.documents import Funnel, Manifest
from alignset.pipeline.shown_texts import counted
from alignset.transforms.pages.page_counts import PageCounts
from alignset.transforms.rules.given import OPTED_OUT

_NAMED_FILES = 5  # of each format
# Reasons of the funnel, beside what owners wish, that say that a pair is not wanted here.
_UNWANTED = ("blocked", "taken_down")
# By flag, how an owner says it.
_OTHER_WISHES = {
    "tdm_reservation": "TDM reservations",
    "content_usage": "AI preferences (`Content-Usage`)",
    "xmp_data_mining": "`DataMining` in XMP",
    "c2pa": "C2PA's assertion on training",
}


def sources(manifest: Manifest) -> list[str]:
    """The input files by their format, in Markdown: by name, without the machine's folders."""
    lines = []
    for kind, group in groupby(sorted(manifest.input, key=attrgetter("format", "path")), _format):
        files = list(group)
        names = ", ".join(as_code(file.path.rpartition("/")[2]) for file in files[:_NAMED_FILES])
        more = len(files) - _NAMED_FILES
        tail = f", and {more:,} more, which `manifest.json` names" if more > 0 else ""
        size = sum(file.bytes for file in files)
        lines.append(
            f"{counted(len(files), 'file')} of format {kind if kind.isalnum() else as_code(kind)}, "
            f"{size:,} bytes: {names}{tail}"
        )
    return lines


_format = attrgetter("format")


def span(first: str, last: str) -> str:
    """As "on 2024-05-18", or "from 2024-05-18 to 2024-05-30"."""
    return f"on {first}" if first == last else f"from {first} to {last}"


def crawl_days(funnel: Funnel) -> str:
    """When pages were crawled, as their archives say; "" where these do not."""
    pages = funnel.pages
    if not isinstance(pages, PageCounts) or not (pages.first_day and pages.last_day):
        return ""
    return span(pages.first_day, pages.last_day)


def fetch_span(manifest: Manifest) -> str:
    """When images were fetched; "" where none was."""
    return span(manifest.fetched.first, manifest.fetched.last) if manifest.fetched else ""


def earlier_fetch_span(earlier: Earlier) -> str:
    """When the images of earlier sets were fetched; "" where nothing tells."""
    spans = [f"{folder} {span(first, last)}" for folder, first, last in earlier_fetches(earlier)]
    return ", ".join(spans)


def opt_outs(funnel: Funnel) -> dict[str, int]:
    """How many pairs are not in the set since somebody did not want them used, by how that was
    said: details of `opted_out`, and reasons of the funnel; those of earlier sets by their
    folders."""
    wishes = funnel.opted_out
    counts: dict[str, int] = {}
    if not isinstance(wishes, UnsetType) and wishes.unwished == "reject":
        counts |= wishes.details
    for step in funnel.steps:
        for reason in _UNWANTED:
            counts[reason] = counts.get(reason, 0) + step.dropped.get(reason, 0)
    for stage in all_stages(funnel):
        for reason in (OPTED_OUT, *_UNWANTED):
            dropped = sum(step.dropped.get(reason, 0) for step in stage.steps)
            counts[f"{stage.folder}: {reason}"] = dropped
    return {name: count for name, count in counts.items() if count}


def heeded(manifest: Manifest, earlier: Earlier | None = None) -> str:
    """Which wishes about the use of images were asked for, in sentences in Markdown."""
    before = with_images(earlier or {})
    fetched = [
        f" Earlier, of {as_code(folder)}: {_heeded(of_set)}"
        for folder, of_set in before.items()
        if of_set.fetched
    ]
    own = " by this run" if fetched and not manifest.fetched else ""
    first = _heeded(manifest) or f"No image was fetched{own}, so no host was asked."
    return "".join([first, *fetched])


def _heeded(manifest: Manifest) -> str:
    if not manifest.fetched:
        return ""
    fetch = manifest.fetch
    directives = str(fetch.get("disallowed_header_directives", ""))
    robots = "" if fetch.get("robots_txt") else "not "
    heard = f"with one of {as_code(directives)} was heeded" if directives else "was not heeded"
    others = [name for flag, name in _OTHER_WISHES.items() if fetch.get(flag)]
    also = f" Heeded were also {', '.join(others)}." if others else ""
    reported = (
        " What owners do not want used was kept, and is told in `opted_out` of the sidecars."
        if fetch.get("unwished") == "report"
        else ""
    )
    return (
        f"While images were fetched, the hosts' `robots.txt` was {robots}asked, and an "
        f"`X-Robots-Tag` {heard}.{also}{reported}"
    )


def contact(manifest: Manifest) -> str:
    """What the last command gave that fetched anything, for takedowns; "" where none did."""
    fetches = [manifest.fetch, *(retry.fetch for retry in manifest.retries or [])]
    return next((str(fetch["contact"]) for fetch in reversed(fetches) if fetch.get("contact")), "")


def _of_unsafe_images(manifest: Manifest, earlier: Earlier) -> str:
    model, before = manifest.unsafe_model, earlier_scores(earlier)
    none_looked = "Nobody has looked at the images one by one."
    if not model and before:
        return (
            f"**Unsafe images that a classifier misses**: {before}. This run scored none, so "
            "images of pairs that did not come from there are not filtered. How many a classifier "
            f"misses is not known. {none_looked}"
        )
    if not model:
        return (
            "**Unsafe images**: pornographic, violent and otherwise shocking images are not "
            f"filtered. {none_looked}"
        )
    first = model.integer_model
    lower = f" (those below {first.settles_below} are by its network in integers)" if first else ""
    return (
        f"**Unsafe images that a classifier misses** ({as_code(model.path)}): images with a score "
        f"above {manifest.rules['max_unsafe_score']} were dropped, and the scores of the others "
        f"are in the sidecars{lower}. How many it misses is not known. The usual classifier looks "
        f"for pornography alone, not for violence or other shocking images. {none_looked}"
    )


def unfiltered(manifest: Manifest, text_only: bool, earlier: Earlier | None = None) -> list[str]:
    """What no rule of this run, or of those of earlier sets, looked at, in plain words."""
    rules, fetch = manifest.rules, manifest.fetch
    of_all = [
        "**Personal data**: names, faces and addresses in texts and images stay.",
        "**Hateful, false or otherwise harmful texts**: no rule looks for them.",
        "**Whether a text describes its image**: no model has compared the two.",
    ]
    if rules["language"]:
        judged = "**Language**: a program judged each text, and errs; some are in other languages."
    else:
        judged = "**Language**: there was no rule, and texts of all languages were kept."
    if text_only:
        return [*of_all, judged, "**Images**: none was fetched, so no rule saw any."]
    lines = [
        _of_unsafe_images(manifest, earlier or {}),
        *of_all,
        "**Watermarks, logos, placeholders and pictures of text**: no rule looks for them.",
        "**Copies within the set**: an image that lies at two URLs is in the set twice, and images "
        "that nearly equal each other stay.",
        judged,
    ]
    if manifest.fetched and not fetch["robots_txt"]:
        lines.append("**`robots.txt`** of the hosts was not asked.")
    if manifest.fetched and not fetch["disallowed_header_directives"]:
        lines.append("**`X-Robots-Tag`** of the answers was not heeded.")
    return lines
