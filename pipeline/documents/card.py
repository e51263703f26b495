"""The dataset card: a README that tells a person, and the Hugging Face Hub, what a set is."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import pyarrow as pa

from alignset.pipeline.datasets.funnel import render_funnel
from alignset.pipeline.datasets.history import all_stages
from alignset.pipeline.datasets.reproduce import commands
from alignset.pipeline.datasets.sizes_and_days import QUANTILES, Contents, as_code
from alignset.pipeline.documents.earlier_rules import (
    Earlier,
    earlier_blocklists,
    earlier_evaluation,
    earlier_vocabularies,
)
from alignset.pipeline.documents.templates import template
from alignset.pipeline.documents.wording import (
    contact,
    crawl_days,
    earlier_fetch_span,
    fetch_span,
    heeded,
    opt_outs,
    sources,
    unfiltered,
)
from alignset.pipeline.runs.documents import Funnel, Manifest, Stage
from alignset.transforms.shards.shard_files import METADATA, SHARD_SCHEMA


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
    before = earlier or {}
    original = manifest.resize["resize_mode"] == "original"
    extension = "jpg" if original else str(manifest.resize["encode_format"])
    text_only = bool(manifest.job["text_only"])
    numbers = [int(number) for number, shard in manifest.shards.items() if shard.pairs]
    held_out = sum(shard.pairs for shard in manifest.held_out.values())
    return template("card.j2").render(
        manifest=manifest,
        contents=contents,
        text_only=text_only,
        held_out=held_out,
        trained=manifest.pairs - held_out,
        filled=len(numbers),
        extension=extension,
        features=_features(extension, text_only),
        pairs=f"{manifest.pairs:,}",
        size=size_category(manifest.pairs),
        quantiles=[f"{share:.0%}" for share in QUANTILES],
        sources=sources(manifest),
        broken=funnel.broken_input or None,
        days=crawl_days(funnel),
        fetched=fetch_span(manifest),
        contact=contact(manifest),
        opt_outs=opt_outs(funnel),
        heeded=heeded(manifest, earlier),
        fetched_before=earlier_fetch_span(before),
        evaluated=[] if text_only else earlier_evaluation(before),
        blocked_before=earlier_blocklists(before),
        vocabularies=earlier_vocabularies(before),
        keeps={
            name: f"{limit.words} {manifest.rules[name]}"
            for name, limit in manifest.catalogue.limits.items()
            if name in manifest.rules
        },
        also_before={"vocabulary_size": _sizes(before)},
        commands=commands(manifest),
        tars=tar_pattern(sorted(numbers)),
        unfiltered=unfiltered(manifest, text_only, earlier),
        table=render_funnel(funnel.steps),
        stages=[_stage(stage, manifest, before) for stage in all_stages(funnel)],
    )


def _sizes(earlier: Earlier) -> str:
    """The vocabulary's size in earlier sets: that of a set made of them is of what they left."""
    return "".join(
        f"; before, {as_code(folder)}: {as_code(str(manifest.rules['vocabulary_size']))}"
        for folder, manifest in earlier.items()
        if "vocabulary_size" in manifest.rules
    )


def _stage(stage: Stage, manifest: Manifest, earlier: Mapping[str, Manifest]) -> dict[str, Any]:
    """What the card tells of an earlier set: its sources, its funnel and its other rules."""
    before = earlier.get(stage.folder)
    rules = before.rules.items() if before else ()
    return {
        "folder": stage.folder,
        "pairs": stage.pairs,
        "sources": sources(before) if before else [],
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
