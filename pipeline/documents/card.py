"""The dataset card: a README that tells a person, and the Hugging Face Hub, what a dataset is."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pyarrow as pa

from alignset.pipeline.datasets.history import all_stages
from alignset.pipeline.datasets.reproduce import commands
from alignset.pipeline.datasets.sizes_and_days import QUANTILES, Contents
from alignset.pipeline.datasets.summary import render_funnel
from alignset.pipeline.documents.wording import (
    Earlier,
    common_facts,
    earlier_blocklists,
    earlier_vocabularies,
    sources,
    template,
)
from alignset.pipeline.runs.documents import Funnel, Manifest, SourceSet
from alignset.pipeline.shown_texts import as_code, counted
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS
from alignset.transforms.rules.catalogue import KEEP_MOST_SIMILAR
from alignset.transforms.rules.concepts import MAX_PAIRS_PER_CONCEPT
from alignset.transforms.rules.language_codes import ALL, UNDETERMINED
from alignset.transforms.shards.shard_files import METADATA, SHARD_SCHEMA


def dataset_card(manifest: Manifest, funnel: Funnel, contents: Contents, earlier: Earlier) -> str:
    """The text of the card.

    Args:
      contents: what was seen of the pairs. manifest, funnel, earlier: as of `common_facts`.
    """
    facts = common_facts(manifest, funnel, contents, earlier)
    extension = manifest.extension
    numbers = sorted(int(number) for number, shard in manifest.shards.items() if shard.pairs)
    return template("card.j2").render(
        facts,
        trained=manifest.pairs - facts["held_out"],
        filled=len(numbers),
        extension=extension,
        features=_features(manifest, bool(contents.languages)),
        looked_into=sum(contents.languages.values()),
        languages=spoken_languages(manifest, contents),
        pairs=counted(manifest.pairs, "image and alt-text pair"),
        size=size_category(manifest.pairs),
        quantiles=[f"{share:.0%}" for share in QUANTILES],
        broken=funnel.broken_input or None,
        blocked_before=earlier_blocklists(earlier),
        vocabularies=earlier_vocabularies(earlier),
        rules=_rules(manifest, _sizes(earlier)),
        commands=commands(manifest),
        private=bool(manifest.fetch["allow_private_addresses"]),
        tars=tar_pattern(numbers),
        table=render_funnel(funnel.steps),
        stages=[_stage(stage, manifest, earlier) for stage in all_stages(funnel)],
    )


# The values of rules that the catalogue has only where they drop something.
_OFF = {KEEP_MOST_SIMILAR: 1, MAX_PAIRS_PER_CONCEPT.name: 0}


def _rules(manifest: Manifest, sizes_before: str) -> list[tuple[str, str, str]]:
    """The rules for a table: name, value and what it keeps.

    Args:
      sizes_before: what is added to the vocabulary's size.
    """
    catalogue, rows = manifest.catalogue, []
    flags = {rule.name: rule for rule in catalogue.rules}
    for name, value in manifest.rules.items():
        rule, limit = flags.get(name), catalogue.limits.get(name)
        is_off = value in ("", _OFF.get(name)) if rule is None else rule.is_off(value)
        word = "all" if name == "language" else "off"
        shown = word if is_off else str(value)
        keeps = f"{limit.words} {value}" if limit and not is_off else ""
        shown += sizes_before if name == "vocabulary_size" else ""
        rows.append((as_code(name), shown, keeps))
    return rows


def _sizes(earlier: Earlier) -> str:
    """The vocabulary's size in earlier datasets, since a dataset made from them counts only what
    they kept."""
    return "".join(
        f"; before, {as_code(folder)}: {as_code(str(manifest.rules['vocabulary_size']))}"
        for folder, manifest in earlier.items()
        if "vocabulary_size" in manifest.rules
    )


def _stage(stage: SourceSet, manifest: Manifest, earlier: Earlier) -> dict[str, Any]:
    """Facts about an earlier dataset for the card: its sources, its funnel and its other rules."""
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
    """The Hugging Face Hub's name for a dataset of this size."""
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


def spoken_languages(manifest: Manifest, contents: Contents) -> list[str]:
    """The languages of a dataset, the most frequent first."""
    codes = [code for code in contents.languages if code and code != UNDETERMINED]
    rule = str(manifest.rules["language"])
    return codes or [code for code in rule.split(",") if code not in ("", ALL)]


def _features(manifest: Manifest, has_languages: bool) -> list[tuple[str, Any]]:
    """Types that `datasets` would guess from the first five samples, where a null may be all it
    sees."""
    further = LANGUAGE_COLUMNS if has_languages else ()
    extension, columns = manifest.extension, [*(manifest.columns or {}).items()]
    if manifest.job["text_only"]:
        texts: list[tuple[str, Any]]
        texts = [(name, "string") for name in ("key", "url", "caption", "page_url", *further)]
        return [*texts, *((name, {"name": name} | feature(kind)) for name, kind in columns)]
    kinds = {pa.string(): "string", pa.int32(): "int32"}
    metadata: list[tuple[str, Any]]
    metadata = [(name, kinds[SHARD_SCHEMA.field(name).type]) for name in METADATA]
    metadata += [(name, "string") for name in further]
    metadata += [(name, {"name": name} | feature(kind, in_json=True)) for name, kind in columns]
    own = [("__key__", "string"), ("__url__", "string")]
    return [(extension, "image"), ("json", metadata), ("txt", "string"), *own]


def feature(kind: Any, *, in_json: bool = False) -> dict[str, Any]:
    """A type of a manifest as `datasets` has it in YAML: `{"dtype": "string"}`, `{"list": ...}`.

    Args:
      in_json: whether it is of `KEY.json`, where times are text.
    """
    if isinstance(kind, str):
        is_text = in_json and kind.startswith(("timestamp", "date"))
        return {"dtype": "string" if is_text else kind}
    if "list" in kind:
        inner = feature(kind["list"], in_json=in_json)
        return {"list": inner.get("dtype") or inner.get("struct") or inner}
    fields = kind["struct"].items()
    return {"struct": [{"name": name} | feature(of, in_json=in_json) for name, of in fields]}
