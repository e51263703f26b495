"""The funnel: what each step saw, kept and dropped; and the funnels of the datasets that a dataset
was made of, whose documents `history/` has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from alignset.pipeline.inputs.earlier_sets import EarlierSet
from alignset.pipeline.runs.documents import Funnel, Manifest, SourceSet, Step
from alignset.transforms.rules.catalogue import PRODUCT, TAKEDOWN_STEPS, Catalogue
from alignset.transforms.rules.given import TAKEN_DOWN
from alignset.transforms.storage.documents import DocumentError, read_document
from alignset.transforms.storage.files import carry_file, match

Name = TypeVar("Name")
Drops = Mapping[str, int]  # how many pairs were dropped for each reason


def funnel(
    seen: int,
    texts: Drops,
    images: Drops | None = None,
    taken_down: int | None = None,
    catalogue: Catalogue = PRODUCT,
) -> list[Step]:
    """The steps in order, each with how many pairs it saw, kept, and dropped for each reason.

    Args:
      seen: how many pairs came. texts, images: the drops of each stage; no images where the dataset
        has none.
      taken_down: how many pairs were taken out after the run; None where nothing was.
    """
    parts = [(catalogue.text_steps, texts)]
    if images is not None:
        parts.append((catalogue.image_steps, images))
    if taken_down is not None:
        parts.append((TAKEDOWN_STEPS, {TAKEN_DOWN: taken_down}))
    table = []
    for steps, drops in parts:
        for name, reasons in steps.items():
            dropped = {reason: drops.get(reason, 0) for reason in reasons}
            table.append(Step(name, seen, seen - sum(dropped.values()), dropped))
            seen = table[-1].kept
    return table


def drops_of(table: list[Step], steps: Mapping[str, object]) -> dict[str, int]:
    """The drops of some steps of a funnel."""
    return {reason: n for of in table if of.step in steps for reason, n in of.dropped.items()}


def most_first(counts: Mapping[Name, int]) -> dict[Name, int]:
    """Counts by name, the highest first; equal ones by their names, no name like an empty one."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0] or "")))


FOLDER = "history"
_CARRIED = re.compile(rf"({FOLDER}/[0-9]{{2,9}}/)*(manifest|funnel)\.json")
_THREADS = 16  # since a store answers slowly


def carry_history(out: str, sets: Sequence[EarlierSet]) -> None:
    """Brings the documents of earlier datasets to `history/`, each dataset's to a folder of its own
    with what that dataset carried along itself."""
    for number, earlier in enumerate(sets):
        paths = [
            path
            for name in ("manifest.json", "funnel.json", FOLDER)
            for path, _ in match(f"{earlier.folder}/{name}")
            # No other file: whoever made the dataset may have put any, or a link to any, there.
            if _CARRIED.fullmatch(path.removeprefix(f"{earlier.folder}/"))
        ]
        folder = f"{out}/{FOLDER}/{number:02d}"
        targets = [f"{folder}{path.removeprefix(earlier.folder)}" for path in paths]
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(carry_file, paths, targets))


def history_of(out: str) -> list[SourceSet]:
    """The earlier datasets whose documents are in `history/`, with the stages that they tell of."""
    paths = [path.removeprefix(f"{out}/") for path, _ in match(f"{out}/{FOLDER}")]
    names = {path.split("/")[1] for path in paths if _CARRIED.fullmatch(path)}
    return [_stage(out, f"{FOLDER}/{name}") for name in sorted(names, key=int)]


def _stage(out: str, folder: str) -> SourceSet:
    """Facts about an earlier dataset; only its place for another version."""
    with suppress(DocumentError, FileNotFoundError):
        funnel = read_document(f"{out}/{folder}/funnel.json", Funnel)
        before = funnel.history or []
        return SourceSet(folder, funnel.pairs, _plain(funnel.steps), _move_stages(folder, before))
    return SourceSet(folder)


def _move_stages(folder: str, stages: Sequence[SourceSet]) -> list[SourceSet]:
    """The stages of a dataset, in the folders of its history that they are in: not as they say."""
    names = [f"{folder}/{FOLDER}/{number:02d}" for number in range(len(stages))]
    return [
        SourceSet(name, stage.pairs, _plain(stage.steps), _move_stages(name, stage.history))
        for name, stage in zip(names, stages, strict=True)
    ]


def _plain(steps: Sequence[Step]) -> list[Step]:
    """The steps of a funnel that somebody else may have written, with names that can be shown."""

    def shown(name: str) -> str:
        return re.sub(r"[^a-z0-9_]", "?", name)[:60]

    return [
        replace(of, step=shown(of.step), dropped={shown(why): n for why, n in of.dropped.items()})
        for of in steps
    ]


def all_stages(dataset: Funnel | SourceSet) -> list[SourceSet]:
    """The earlier datasets that a funnel tells of, those first that others were made of."""
    sources = dataset.history or []
    return [stage for source in sources for stage in (*all_stages(source), source)]


def earlier_manifests(out: str, funnel: Funnel) -> dict[str, Manifest]:
    """The manifests of all earlier stages, by the folder that they are in."""
    manifests = {}
    for stage in all_stages(funnel):
        with suppress(DocumentError, FileNotFoundError):
            path = f"{out}/{stage.folder}/manifest.json"
            manifests[stage.folder] = read_document(path, Manifest)
    return manifests
