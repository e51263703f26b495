"""The dataset card: a README that tells a person, and the Hugging Face Hub, what a set is."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any

import jinja2
import pyarrow as pa

from pipeline.report.card_text import BODY, FRONT
from pipeline.report.contents import QUANTILES, Contents, as_code
from pipeline.report.funnel import render_funnel
from pipeline.report.history import all_stages
from pipeline.runs.documents import Funnel, Manifest, Stage
from transforms.pages.parse_pages import PageCounts
from transforms.shards.shard_files import METADATA, SHARD_SCHEMA

_NAMED_FILES = 5  # of each format, on the card


def dataset_card(
    manifest: Manifest,
    funnel: Funnel,
    contents: Contents,
    earlier: Mapping[str, Manifest] | None = None,
) -> str:
    """The text of the card.

    Args:
      manifest, funnel: as they are written.
      contents: what was seen of the pairs.
      earlier: the manifests of the sets that it was made of, by where they are.
    """
    original = manifest.resize["resize_mode"] == "original"
    extension = "jpg" if original else str(manifest.resize["encode_format"])
    text_only = bool(manifest.job["text_only"])
    numbers = [int(number) for number, shard in manifest.shards.items() if shard.pairs]
    held_out = sum(shard.pairs for shard in manifest.held_out.values())
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)
    return environment.from_string(FRONT + BODY).render(
        manifest=manifest,
        contents=contents,
        text_only=text_only,
        held_out=held_out,
        trained=manifest.pairs - held_out,
        filled=len(numbers),
        extension=extension,
        features=_features(extension, text_only),
        pairs=f"{manifest.pairs:,}",
        n="{:,}".format,
        code=as_code,
        size=size_category(manifest.pairs),
        quantiles=[f"{share:.0%}" for share in QUANTILES],
        sources=_sources(manifest),
        broken=funnel.broken_input or None,
        days=_crawl_days(funnel),
        fetched=_span(manifest.fetched.first, manifest.fetched.last) if manifest.fetched else "",
        contact=_contact(manifest),
        tars=tar_pattern(sorted(numbers)),
        unfiltered=_unfiltered(manifest, text_only),
        table=render_funnel(funnel.steps),
        stages=[_stage(stage, manifest, earlier or {}) for stage in all_stages(funnel)],
    )


def _stage(stage: Stage, manifest: Manifest, earlier: Mapping[str, Manifest]) -> dict[str, Any]:
    """What the card tells of an earlier set: its sources, its funnel and its other rules."""
    before = earlier.get(stage.folder)
    rules = before.rules.items() if before else ()
    return {
        "folder": stage.folder,
        "pairs": stage.pairs,
        "sources": _sources(before) if before else [],
        "rules": {
            as_code(name): as_code(str(value))
            for name, value in rules
            if manifest.rules.get(name) != value
        },
        "table": render_funnel(stage.steps) if stage.steps else "",
    }


def size_category(pairs: int) -> str:
    """The Hugging Face Hub's name for a set of this size."""
    names = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    if pairs < 1000:
        return "n<1K"
    power = len(str(pairs)) - 4
    return f"{names[power]}<n<{names[power + 1]}" if power < 9 else "n>1T"


def tar_pattern(numbers: list[int]) -> str:
    """The tars of some shards, ascending, as open_clip takes them: no number that is not there."""
    runs = groupby(enumerate(numbers), lambda item: item[1] - item[0])
    parts = [[number for _, number in run] for _, run in runs]
    return "::".join(f"shards/{{{part[0]:05d}..{part[-1]:05d}}}.tar" for part in parts)


def _features(extension: str, text_only: bool) -> list[tuple[str, str | list[tuple[str, str]]]]:
    """What `datasets` would guess from the first five samples, where a null may be all it sees."""
    if text_only:
        return [(name, "string") for name in ("key", "url", "caption", "page_url")]
    kinds = {pa.string(): "string", pa.int32(): "int32"}
    metadata = [(name, kinds[SHARD_SCHEMA.field(name).type]) for name in METADATA]
    own = [("__key__", "string"), ("__url__", "string")]
    return [(extension, "image"), ("json", metadata), ("txt", "string"), *own]


def _sources(manifest: Manifest) -> list[str]:
    lines = []
    for kind, group in groupby(sorted(manifest.input, key=attrgetter("format", "path")), _format):
        files = list(group)
        names = ", ".join(as_code(file.path.rpartition("/")[2]) for file in files[:_NAMED_FILES])
        more = len(files) - _NAMED_FILES
        tail = f", and {more:,} more, which `manifest.json` names" if more > 0 else ""
        size = sum(file.bytes for file in files)
        files_of = "1 file" if len(files) == 1 else f"{len(files):,} files"
        lines.append(
            f"{files_of} of format {kind if kind.isalnum() else as_code(kind)}, {size:,} bytes: "
            f"{names}{tail}"
        )
    return lines


_format = attrgetter("format")


def _span(first: str, last: str) -> str:
    return f"on {first}" if first == last else f"from {first} to {last}"


def _crawl_days(funnel: Funnel) -> str:
    pages = funnel.pages
    if not isinstance(pages, PageCounts) or not (pages.first_day and pages.last_day):
        return ""
    return _span(pages.first_day, pages.last_day)


def _contact(manifest: Manifest) -> str:
    """What the last command gave that fetched anything."""
    fetches = [manifest.fetch, *(retry.fetch for retry in manifest.retries or [])]
    return next((str(fetch["contact"]) for fetch in reversed(fetches) if fetch.get("contact")), "")


def _of_unsafe_images(manifest: Manifest) -> str:
    model = manifest.unsafe_model
    none_looked = "Nobody has looked at the images one by one."
    if not model:
        return (
            "**Unsafe images**: pornographic, violent and otherwise shocking images are not "
            f"filtered. {none_looked}"
        )
    return (
        f"**Unsafe images that a classifier misses** ({as_code(model.path)}): images with a score "
        f"above {manifest.rules['max_unsafe_score']} were dropped, and the scores of the others "
        "are in the sidecars. How many it misses is not known. The usual classifier looks for "
        f"pornography alone, not for violence or other shocking images. {none_looked}"
    )


def _unfiltered(manifest: Manifest, text_only: bool) -> list[str]:
    """What no rule of this run looked at, in plain words."""
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
        _of_unsafe_images(manifest),
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
    if manifest.fetched and fetch["unwished"] == "report":
        lines.append(
            "**What owners do not want used** is in the set, and told in `opted_out` of the sidecars."
        )
    return lines
