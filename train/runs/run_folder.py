"""A run's folder: what it was started with, and whether this start resumes it."""

import dataclasses
import fcntl
import json
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from alignset.train.data.find_shards import ShardSet
from alignset.train.data.shard_streams import PIPE, fingerprint
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError
from alignset.train.runs.flags import EARLIER
from alignset.train.settings import RunSettings
from alignset.transforms.storage.files import remove_leftovers

PACKAGES = ("numpy", "pillow", "simplejpeg", "timm", "tokenizers", "torch", "transformers")
# What a start makes before its first step.
_BEFORE_STEPS = ("shards.npz", "shards.parts", "tokenizer", "unknown_tokens.json", "tensorboard")
_LOOKED_AT = 32  # shards at once: of a store each takes two answers
_ENDING_S = 3.0  # a process that was killed gives its memory back first, and then its locks


def open_run(
    run: Path, settings: RunSettings, sets: list[ShardSet], models: Iterable[str] = ()
) -> None:
    """Makes the folder, or checks that it is a run of these settings, shards and starting weights.

    Allowed differences are reported in a line, and are the run's from then on.

    Args:
      models: what the run starts from; of folders, the weights' fingerprints are kept.

    Raises:
      SettingsError: it holds another run, or something that is not a run.
    """
    config, path = _config(settings, sets, models), run / "config.json"
    if path.exists():
        _check_same(run, settings, config)
        return
    # A kill, or a full disk, may have left the start of a config.
    if run.exists() and not (
        run.is_dir() and all(file.name.startswith(".config.json.") for file in run.iterdir())
    ):
        raise SettingsError(f"{run} holds something else than a run: name a new --output")
    try:
        _write_config(run, config)
    except OSError as error:
        raise SettingsError(f"{run} cannot be made ({error}): name another --output") from error


def _config(settings: RunSettings, sets: list[ShardSet], models: Iterable[str]) -> dict[str, Any]:
    """Settings, versions, and name and fingerprint of each shard and each file of weights: their
    folder may change, their bytes may not."""
    files = [path for model in models if model for path in Path(model).glob("*.safetensors")]
    local = [s for of in sets for s in of.shards if not s.startswith(PIPE) and "://" not in s]
    with ThreadPoolExecutor(_LOOKED_AT) as pool:
        identities = [
            {
                "weight": shard_set.weight,
                "shards": [
                    [shard if shard.startswith(PIPE) else Path(shard).name, digest]
                    for shard, digest in zip(
                        shard_set.shards, pool.map(fingerprint, shard_set.shards), strict=True
                    )
                ],
            }
            for shard_set in sets
        ]
    return {
        "settings": dataclasses.asdict(settings),
        "sets": identities,
        "folders": sorted({str(Path(shard).absolute().parent) for shard in local}),
        "weights": [[path.name, fingerprint(str(path))] for path in sorted(files)],
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
    }


def _write_config(run: Path, config: dict[str, Any]) -> None:
    write_whole(run / "config.json", json.dumps(config, indent=2) + "\n")


def _check_same(run: Path, settings: RunSettings, config: dict[str, Any]) -> None:
    path = run / "config.json"
    try:
        before = json.loads(path.read_text())
        differing = _differences(before["settings"], settings, warns=False)
        new_settings = _differences(before["settings"], settings, warns=True)
        versions = _changes(before["versions"], config["versions"], config["versions"])
        same_data = all(before[name] == config[name] for name in ("sets", "weights"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{path} is not a run's config ({error!r}): name a new --output"
        ) from error
    if (differing or not same_data) and not _has_stepped(run):
        with hold_run(run):  # as of a wrong flag: its folder becomes another's
            for made in (run / name for name in _BEFORE_STEPS):
                shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
            _write_config(run, config)
        print(f"{run} had not made a step: it begins anew, as this command says", file=sys.stderr)
        return
    if differing:
        raise SettingsError(
            f"{run} is a run with other settings ({'; '.join(differing)}): name a new --output"
        )
    if not same_data:
        raise SettingsError(
            f"{run} is a run on other shards, or with other weights of them, or that started from "
            "another model: name a new --output"
        )
    if has_ended(run, settings):
        return  # nothing is trained: it stays what it was made with
    for what, changes in (("settings", new_settings), ("versions", versions)):
        if changes:
            print(f"{run} resumes with other {what}: {'; '.join(changes)}", file=sys.stderr)
    if new_settings or versions:
        with hold_run(run):  # or the new config would be another file than the one that is held
            if new_settings:
                shutil.rmtree(run / "model", ignore_errors=True)  # it is one of fewer steps
            _write_config(run, config)


def _differences(before: dict[str, object], settings: RunSettings, *, warns: bool) -> list[str]:
    """The settings that differ: those that may although it matters, or those that may not. One that
    an older version did not know had what is its default now."""
    now = dataclasses.asdict(settings)
    fields = dataclasses.fields(settings)
    before = {field.name: field.default for field in fields} | before
    free = {field.name for field in fields if not field.metadata["decides"]} | EARLIER.keys()
    may = {field.name for field in fields if field.metadata.get("warns")}
    names = [name for name in (now | before) if name not in free and (name in may) == warns]
    return _changes(before, now, names)


def _changes(before: dict[str, Any], now: dict[str, Any], names: Iterable[str]) -> list[str]:
    return [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _has_stepped(run: Path) -> bool:
    """Whether a step of a run left something that another start could resume from, or lose."""
    metrics = run / "metrics.jsonl"
    traces = [*run.glob("checkpoints/*.pt"), *run.glob("model*")]
    return bool(traces) or (metrics.exists() and metrics.stat().st_size > 0)


def has_ended(run: Path, settings: RunSettings) -> bool:
    """Whether its model is there, of as many steps and epochs as these settings have, or more."""
    try:
        before = json.loads((run / "config.json").read_text())["settings"]
        lengths = ((before.get(n, 0), getattr(settings, n, 0)) for n in ("steps", "epochs"))
        return (run / "model").exists() and all(had >= wanted for had, wanted in lengths)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # it is not a run, as `open_run` says


@contextmanager
def hold_run(run: Path) -> Iterator[None]:
    """Within, no other start trains this run. The system lets go of it when the process ends.

    Raises:
      SettingsError: one does already.
    """
    until = time.monotonic() + _ENDING_S
    with open(run / "config.json", "a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise SettingsError(
                        f"{run} is being trained already: wait until that has ended, or end it"
                    ) from error
                time.sleep(0.02)
            except OSError:
                break  # a file system that has no locks
        remove_leftovers(str(run))
        yield


def cut_metrics(path: Path, last_step: int) -> None:
    """Drops measurements after the checkpoint that the run resumes from."""
    if not path.exists():
        return
    lines = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= last_step:
                lines.append(line + "\n")
        except ValueError:  # the line that was being written when the run was killed
            break
    write_whole(path, "".join(lines))
