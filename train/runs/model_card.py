"""A run's README.md, the model card that a hub shows: its data, its settings, how it went."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2

from alignset.train.data.find_shards import ShardSet
from alignset.train.data.shard_streams import PIPE
from alignset.train.errors import counted
from alignset.train.model.tokenizer import read_unknown
from alignset.train.runs.curve import CURVE, CURVES, draw_curve, read_points
from alignset.train.settings import Settings

_MOST_BYTES = 1 << 26  # of a manifest: that of 500,000 shards
_LONGEST_CELL = 200  # characters
_MOST_EARLIER = 20  # sets that a dataset was made of


def write_card(folder: Path, run: Path, settings: Settings, sets: list[ShardSet]) -> None:
    """Writes README.md, by model_card.md.j2, and the curve that it shows.

    Args:
      folder: of a model, or of the run.
      run: the run's folder, whose metrics are told.
      sets: what it was trained on. The manifests of shards that lie on this machine are looked for.
    """
    names = (*CURVES, "validation/n")
    loss, recall, images = (read_points(run / "metrics.jsonl", name) for name in names)
    if loss or recall:
        draw_curve(loss, recall, folder / CURVE)
    jinja = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    jinja.filters["cell"] = _cell
    template = Path(__file__).with_name("model_card.md.j2").read_text(encoding="utf-8")
    fields = [of.name for of in dataclasses.fields(settings) if of.metadata["decides"]]
    text = jinja.from_string(template).render(
        model="model" if folder == run else ".",
        datasets=[data for shard_set in sets for data in _datasets(shard_set, len(sets) > 1)],
        **{"loss": loss, "recall": recall, "images": images, "curve": CURVE},
        unknown=read_unknown(run),
        settings={name: getattr(settings, name) for name in fields}
        | {"beta2": settings.kept_of_squares},
    )
    (folder / "README.md").write_text(text, encoding="utf-8", errors="replace")


def _datasets(shard_set: ShardSet, has_weights: bool) -> list[dict[str, Any]]:
    """The shards of each folder that a manifest tells of, and then all others together."""
    folders: dict[Path, list[str]] = {}
    others: list[str] = []
    for shard in shard_set.shards:
        is_local = not shard.startswith(PIPE) and "://" not in shard
        group = folders.setdefault(Path(shard).absolute().parent, []) if is_local else others
        group.append(shard)
    found: list[tuple[list[str], dict[str, Any]]] = []
    for folder, shards in folders.items():
        path = folder.parent / "manifest.json"
        if manifest := _manifest(path, Path(shards[0])):
            history = sorted(path.parent.glob("history/**/manifest.json"))[:_MOST_EARLIER]
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            earlier = [document for before in history if (document := _manifest(before))]
            found.append((shards, {"digest": digest, "manifest": manifest, "earlier": earlier}))
        else:
            others += shards
    if others:
        found.append((others, {}))
    weight = f", weight {shard_set.weight:g}" if has_weights else ""
    return [
        {"shards": counted(len(shards), "shard"), "first": _shown(shards[0]), "weight": weight}
        | facts
        for shards, facts in found
    ]


def _manifest(path: Path, shard: Path | None = None) -> dict[str, Any]:
    """The content of a dataset's manifest; empty where there is none, or it does not have the
    SHA-256 of the shard, since any file may have this name."""
    try:
        data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
        document = json.loads(data)
        if shard:
            with shard.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            document = document if digest.encode() in data else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _shown(shard: str) -> str:
    """A shard's name without what a command or a URL's query may hold, as a key to a store."""
    if shard.startswith(PIPE):
        return "the output of a command"
    path = shard.partition("?")[0].partition("#")[0] if "://" in shard else shard
    return f"`{_cell(Path(path).name)}`"


def _cell(value: object) -> str:
    """A value as one line of a table that nothing in it can end or make a tag."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = " ".join(text.split())
    short = text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + " …"
    for sign, escape in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("`", "&#96;")):
        short = short.replace(sign, escape)
    return short.encode("utf-8", "replace").decode()
