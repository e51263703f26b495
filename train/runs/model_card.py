"""A run's README.md, the model card that a hub shows: its data, its settings, how it went."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from alignset.train.data.find_shards import ShardSet
from alignset.train.data.shard_sources import PIPE
from alignset.train.runs.curve import CURVE, Points, draw_curve, read_last, read_points
from alignset.train.settings import Settings

_MOST_BYTES = 1 << 26  # of a manifest: that of 500,000 shards
_LONGEST_CELL = 200  # characters
_Manifest = tuple[str, dict[str, Any]]  # its SHA-256, and what it says
_MOST_EARLIER = 20  # sets that a set was made of
_EVALUATION = "evaluation images that were kept out"
_OF_EARLIER = ("pairs", _EVALUATION, "rule `vocabulary_size`", "rule `max_unsafe_score`")
_BEGIN = """\
---
library_name: transformers
pipeline_tag: zero-shot-image-classification
tags:
- align
- alignset
- dual-encoder
---
# {title}

This is an ALIGN model (Jia et al., 2021): an image tower and a text tower whose embeddings lie near
each other where an image and a text belong together. It was trained with alignset. Its license, and
what it may be used for, are not stated here: whoever publishes it has to say.

```python
from transformers import AlignModel, AlignProcessor

model = AlignModel.from_pretrained("{folder}").eval()
processor = AlignProcessor.from_pretrained("{folder}")
inputs = processor(images=image, text=texts, padding=True, truncation=True, return_tensors="pt")
probabilities = model(**inputs).logits_per_image.softmax(dim=-1)
```
"""
_LIMITS = """
## Limits

The model has what its pairs have, errors and the biases of where they come from among it. How it
does on other data than was held out of these was not measured here.
"""


def write_card(folder: Path, run: Path, settings: Settings, sets: list[ShardSet]) -> None:
    """Writes README.md and the curve that it shows.

    Args:
      folder: of a model, or of the run.
      run: the run's folder, whose metrics are told.
      sets: what it was trained on. The manifests of shards that lie on this machine are looked for.
    """
    loss, recall = read_points(run / "metrics.jsonl")
    title = f"ALIGN, EfficientNet {settings.image_tower} and BERT {settings.text_tower}"
    if settings.start_from:
        title = f"ALIGN, from {_cell(settings.start_from)}"
    model = "model" if folder == run else "."
    parts = [_BEGIN.format(title=title, folder=model), *_data(sets)]
    parts += _course(loss, recall, read_last(run / "metrics.jsonl", "validation/n"))
    parts += [*_settings(settings), _LIMITS]
    if loss or recall:
        draw_curve(loss, recall, folder / CURVE)
    (folder / "README.md").write_text("".join(parts))


def _data(sets: list[ShardSet]) -> Iterator[str]:
    yield "\n## Data\n"
    for shard_set in sets:
        weight = f", weight {shard_set.weight:g}" if len(sets) > 1 else ""
        for of_folder, manifest in _by_manifest(shard_set.shards):
            shards = "shard" if len(of_folder) == 1 else "shards"
            first = _shard_name(of_folder[0])
            yield f"\n{len(of_folder):,} {shards}, the first of which is {first}{weight}.\n"
            if manifest is None:
                yield "No manifest of these pairs is at hand.\n"
                continue
            digest, document = manifest
            yield (
                f"Their set's `manifest.json` has the SHA-256 `{digest}`; the set's own card has "
                "more.\n"
            )
            yield from _table(_told(document))
            yield from _before(Path(of_folder[0]).absolute().parent.parent)


def _shard_name(shard: str) -> str:
    """Without what a command or a URL's query may hold, as a key to a store."""
    if shard.startswith(PIPE):
        return "the output of a command"
    path = shard.partition("?")[0].partition("#")[0] if "://" in shard else shard
    return f"`{_cell(Path(path).name)}`"


def _by_manifest(shards: Iterable[str]) -> Iterator[tuple[list[str], _Manifest | None]]:
    """The shards of each folder that a manifest tells of, and then all others together."""
    folders: dict[Path, list[str]] = {}
    others: list[str] = []
    for shard in shards:
        if shard.startswith(PIPE) or "://" in shard:
            others.append(shard)
        else:
            folders.setdefault(Path(shard).absolute().parent, []).append(shard)
    for of_folder in folders.values():
        manifest = _manifest(Path(of_folder[0]).absolute())
        if manifest is None:
            others += of_folder
        else:
            yield of_folder, manifest
    if others:
        yield others, None


def _manifest(shard: Path) -> _Manifest | None:
    """That of the set that a shard is of: beside its folder, and with its SHA-256 in it, since any
    file may have this name."""
    path = shard.parent.parent / "manifest.json"
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        data = path.read_bytes()
        document = json.loads(data)
        entries = [document.get(part, {}).get(shard.stem) for part in ("shards", "holdout")]
        with open(shard, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest not in [entry["sha256"] for entry in entries if entry]:
            return None
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return None  # it is not there, or no manifest
    return hashlib.sha256(data).hexdigest(), document


def _before(folder: Path) -> Iterator[str]:
    """What the sets that a set was made of had kept out before, as their manifests in it say."""
    rows = []
    for path in sorted(folder.glob("history/**/manifest.json"))[:_MOST_EARLIER]:
        try:
            if path.stat().st_size > _MOST_BYTES:
                continue
            document = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            rows += [row for row in _told(document) if row[0] in _OF_EARLIER]
    if rows:
        yield "\nThe sets that it was made of had, before that:\n"
        yield from _table(iter(rows))


def _told(document: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """What a manifest says that a reader of the card asks first."""
    if "pairs" in document:
        yield "pairs", _pairs(document)
    fetched = document.get("fetched")
    if isinstance(fetched, dict) and {"first", "last"} <= fetched.keys():
        first, last = str(fetched["first"]), str(fetched["last"])
        yield "images were fetched", f"on {first}" if first == last else f"from {first} to {last}"
    inputs = document.get("input")
    if isinstance(inputs, list):
        yield "input files", len(inputs)
    evaluation = document.get("evaluation_images")
    if isinstance(evaluation, dict) and evaluation:
        yield _EVALUATION, ", ".join(map(str, evaluation))
    rules = document.get("rules")
    if isinstance(rules, dict):
        yield from ((f"rule `{_cell(name)}`", value) for name, value in rules.items())


def _pairs(document: dict[str, Any]) -> object:
    """How many pairs a set has; where some are held out, how many of them, and how many are not."""
    pairs, holdout = document["pairs"], document.get("holdout")
    shards = holdout.values() if isinstance(holdout, dict) else ()
    counts = [shard.get("pairs") if isinstance(shard, dict) else None for shard in shards]
    held = sum(count for count in counts if isinstance(count, int))
    if not isinstance(pairs, int) or not held:
        return f"{pairs:,}" if isinstance(pairs, int) else pairs
    return f"{pairs:,}, of which {held:,} are held out and {pairs - held:,} are to train on"


def _course(loss: Points, recall: Points, images: float | None) -> Iterator[str]:
    yield "\n## How it went\n"
    if not loss and not recall:
        yield "\nNothing was measured on the way.\n"
        return
    yield f"\n![The loss and what validations gave, by step]({CURVE})\n"
    rows: list[tuple[str, object]] = []
    if loss:
        rows.append(("last loss", f"{loss[-1][1]:.4g}, at step {loss[-1][0]:,}"))
    if recall:
        step, best = max(recall, key=lambda point: point[1])
        of = f", among {images:,.0f} images (by chance {100 / images:.2g} %)" if images else ""
        at_end = f"{recall[-1][1]:.1f} %{of}"
        rows.append(("held-out R@1 at the end, mean of both directions", at_end))
        rows.append(("the best, which `model-best` is of", f"{best:.1f} %, at step {step:,}"))
    else:
        rows.append(("held-out pairs", "none were validated on"))
    yield from _table(iter(rows))


def _settings(settings: Settings) -> Iterator[str]:
    yield "\n## Settings\n"
    fields = dataclasses.fields(settings)
    learned = [field.name for field in fields if not field.metadata.get("free")]
    values = {name: getattr(settings, name) for name in learned}
    values["beta2"] = settings.kept_of_squares
    yield from _table((f"`{name}`", value) for name, value in values.items())


def _table(rows: Iterator[tuple[str, object]]) -> Iterator[str]:
    yield "\n| | |\n|---|---|\n"
    for name, value in rows:
        yield f"| {name} | {_cell(value)} |\n"


def _cell(value: object) -> str:
    """A value as one line of a table that nothing in it can end or make a tag."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = " ".join(text.split())
    cut = text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + " …"
    for sign, escaped in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("`", "&#96;")):
        cut = cut.replace(sign, escaped)
    return cut.encode("utf-8", "replace").decode()
