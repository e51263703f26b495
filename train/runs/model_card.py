"""A run's README.md, the model card that a hub shows: its data, its settings, how it went."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jinja2

from alignset.train.data.find_shards import ShardSet
from alignset.train.data.shard_sources import PIPE
from alignset.train.errors import counted
from alignset.train.model.tokenizer import read_unknown
from alignset.train.runs.curve import CURVE, CURVES, Points, draw_curve, read_points
from alignset.train.settings import Settings

_MOST_BYTES = 1 << 26  # of a manifest: that of 500,000 shards
_LONGEST_CELL = 200  # characters
_Manifest = tuple[str, dict[str, Any]]  # its SHA-256, and what it says
_MOST_EARLIER = 20  # sets that a dataset was made of
_EVALUATION = "evaluation images that were kept out"
_OF_EARLIER = ("pairs", _EVALUATION, "rule `vocabulary_size`", "rule `max_unsafe_score`")


def write_card(folder: Path, run: Path, settings: Settings, sets: list[ShardSet]) -> None:
    """Writes README.md and the curve that it shows.

    Args:
      folder: of a model, or of the run.
      run: the run's folder, whose metrics are told.
      sets: what it was trained on. The manifests of shards that lie on this machine are looked for.
    """
    metrics = run / "metrics.jsonl"
    loss, recall = (read_points(metrics, name) for name in CURVES)
    validated_on = read_points(metrics, "validation/n")
    title = f"ALIGN, EfficientNet {settings.image_tower} and BERT {settings.text_tower}"
    if settings.start_from:
        title = f"ALIGN, from {_cell(settings.start_from)}"
    if loss or recall:
        draw_curve(loss, recall, folder / CURVE)
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["cell"] = _cell
    template = Path(__file__).with_name("model_card.md.j2").read_text(encoding="utf-8")
    unknown = read_unknown(run)
    text = environment.from_string(template).render(
        title=title,
        model="model" if folder == run else ".",
        datasets=[data for shard_set in sets for data in _data(shard_set, len(sets) > 1)],
        course=_course(loss, recall, validated_on[-1][1] if validated_on else None),
        curve=CURVE,
        settings=_settings(settings),
        unknown=unknown,
    )
    (folder / "README.md").write_text(text, encoding="utf-8", errors="replace")


def _data(shard_set: ShardSet, has_weights: bool) -> Iterator[dict[str, Any]]:
    """The card's section on a dataset, for each folder of its shards."""
    for shards, manifest in _by_manifest(shard_set.shards):
        data: dict[str, Any] = {
            "shards": counted(len(shards), "shard"),
            "first": _shard_name(shards[0]),
            "weight": f", weight {shard_set.weight:g}" if has_weights else "",
        }
        if manifest is not None:
            digest, document = manifest
            earlier = _earlier_facts(Path(shards[0]).absolute().parent.parent)
            data |= {"digest": digest, "facts": [*_facts(document)], "earlier": earlier}
        yield data


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
    """That of the dataset that a shard is of: beside its folder, and with its SHA-256 in it, since
    any file may have this name."""
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


def _earlier_facts(folder: Path) -> list[tuple[str, object]]:
    """Exclusions of a dataset's source datasets, from their manifests in it."""
    rows = []
    for path in sorted(folder.glob("history/**/manifest.json"))[:_MOST_EARLIER]:
        try:
            if path.stat().st_size > _MOST_BYTES:
                continue
            document = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            rows += [row for row in _facts(document) if row[0] in _OF_EARLIER]
    return rows


def _facts(document: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """The facts in a manifest that a reader of the card needs first."""
    if "pairs" in document:
        yield "pairs", _pairs(document)
    days = document.get("fetched")
    if isinstance(days, dict) and {"first", "last"} <= days.keys():
        first, last = str(days["first"]), str(days["last"])
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
    """How many pairs a dataset has; where some are held out, how many of them, and how many are
    not."""
    pairs, holdout = document["pairs"], document.get("holdout")
    shards = holdout.values() if isinstance(holdout, dict) else ()
    counts = [shard.get("pairs") if isinstance(shard, dict) else None for shard in shards]
    held_out = sum(count for count in counts if isinstance(count, int))
    if not isinstance(pairs, int) or not held_out:
        return f"{pairs:,}" if isinstance(pairs, int) else pairs
    return f"{pairs:,}, of which {held_out:,} are held out and {pairs - held_out:,} are to train on"


def _course(loss: Points, recall: Points, images: float | None) -> list[tuple[str, object]]:
    """How the run went; empty where nothing was measured."""
    rows: list[tuple[str, object]] = []
    if loss:
        rows.append(("last loss", f"{loss[-1][1]:.4g}, at step {loss[-1][0]:,}"))
    if recall:
        step, best = max(recall, key=lambda point: point[1])
        of = f", among {images:,.0f} images (by chance {100 / images:.2g} %)" if images else ""
        at_end = f"{recall[-1][1]:.1f} %{of}"
        rows.append(("held-out R@1 at the end, mean of both directions", at_end))
        rows.append(("the best, which `model-best` is of", f"{best:.1f} %, at step {step:,}"))
    elif loss:
        rows.append(("held-out pairs", "none were validated on"))
    return rows


def _settings(settings: Settings) -> list[tuple[str, object]]:
    fields = dataclasses.fields(settings)
    names = [field.name for field in fields if not field.metadata.get("free")]
    values = {name: getattr(settings, name) for name in names}
    values["beta2"] = settings.kept_of_squares
    return [(f"`{name}`", value) for name, value in values.items()]


def _cell(value: object) -> str:
    """A value as one line of a table that nothing in it can end or make a tag."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = " ".join(text.split())
    short = text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + " …"
    for sign, escape in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("`", "&#96;")):
        short = short.replace(sign, escape)
    return short.encode("utf-8", "replace").decode()
