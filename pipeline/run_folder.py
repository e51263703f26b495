"""The output folder: whose run it is, what is done in it, and its closing documents."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from apache_beam.io.filesystems import FileSystems

from pipeline.card import dataset_card
from pipeline.engine import everywhere
from pipeline.funnel import check_funnel, funnel
from pipeline.inputs import InputFile, match
from pipeline.options import Command, UsageError
from pipeline.run_lock import Lock, take_lock
from transforms.evaluation import EvaluationFile
from transforms.fencing import Fence
from transforms.files import (
    exists,
    is_local,
    move,
    open_to_read,
    remove_leftovers,
    write_atomically,
)
from transforms.hash_sets import HashFile
from transforms.packages import DECIDING, installed
from transforms.reasons import TEXT_STEPS
from transforms.tallies import add_counts
from transforms.vocabulary_file import HASHING, NAME

# What of fetching decides whether a URL can be had at all.
FETCH_RULES = ("allow_private_addresses", "max_image_bytes", "max_redirects", "user_agent")


def describe_run(
    command: Command,
    files: Sequence[InputFile],
    evaluation: Sequence[EvaluationFile],
    vocabulary: HashFile | None = None,
) -> dict[str, Any]:
    """All that decides what the output is; how fast it is fetched and in what batches does not."""
    job = dataclasses.asdict(command.job)
    for name in ("input", "output", "batch_rows", "eval_images", "vocabulary"):
        del job[name]
    rules = dataclasses.asdict(command.rules)
    if vocabulary:
        del rules["vocabulary_size"]
    return {
        "job": job,
        "rules": rules,
        "resize": dataclasses.asdict(command.resize),
        "fetch": {name: getattr(command.fetch, name) for name in FETCH_RULES},
        "input": [{"path": f.path, "bytes": f.size, "format": f.format} for f in files],
        "evaluation": [f._asdict() for f in evaluation],
        "given_vocabulary": vocabulary and vocabulary.described(),
    }


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for k in keys for d in _differences(old.get(k), new.get(k), k)]
    if old == new:
        return []
    if isinstance(old, list | dict) or isinstance(new, list | dict):
        return [f"other {name.replace('_', ' ')}"]
    shown = ["not given" if value is None else value for value in (old, new)]
    return [f"{name} {shown[0]} there, {shown[1]} here"]


class Written(NamedTuple):
    """What the image plane's summary says of a shard."""

    number: int
    pairs: int  # that it was given
    kept: int
    sha256: str


class RunFolder:
    """An output folder.

    Args:
      out: its path.
      description: what `describe_run` says of the run.

    Raises:
      UsageError: the folder holds something else.
    """

    def __init__(self, out: str, description: dict[str, Any]) -> None:
        self.out = out.rstrip("/")
        self.work = f"{self.out}/_temporary"
        self.description = description
        self.fence = Fence(f"{everywhere(self.work)}/start", uuid.uuid4().hex[:12])
        self._lock: Lock | None = None
        self.finished = self._is_finished()
        if not self.finished:
            self._lock = take_lock(self.work)
            self.finished = self._is_finished()  # another run may just have ended, or begun
        if not self.finished:
            if not exists(f"{self.work}/run.json"):
                self._write(f"{self.work}/run.json", description)
            if is_local(self.work):
                self._remove_leftovers()

    def _is_finished(self) -> bool:
        """Whether there is nothing to do; refuses what another run, or somebody else, has made."""
        started, ended = f"{self.work}/run.json", f"{self.out}/manifest.json"
        finished = exists(ended)
        if finished or exists(started):
            there = self._description(ended if finished else started)
            differ = _differences({k: there.get(k) for k in self.description}, self.description)
            if differ:
                self.release()
                raise UsageError(
                    f"{self.out} holds another run ({'; '.join(differ[:3])}); "
                    "give another --output, or delete that folder"
                )
        elif match(self.out) or (is_local(self.out) and Path(self.out).is_file()):
            self.release()
            raise UsageError(f"{self.out} is not empty and no run of ours; give another --output")
        return finished

    def _remove_leftovers(self) -> None:
        """Takes away what a killed attempt left."""
        for name in ("blocks-*", "shard-*", "rows-*"):
            for folder in Path(self.work).glob(name):
                shutil.rmtree(folder, ignore_errors=True)

    def _description(self, path: str) -> dict[str, Any]:
        try:
            there = self._read(path)
        except ValueError:
            there = None
        if not isinstance(there, dict):
            raise UsageError(f"{path} is no file of ours; give another --output")
        return there

    def _read(self, path: str) -> Any:
        with open_to_read(path) as source:
            return json.load(source)

    def _write(self, path: str, value: Any) -> None:
        text = (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
        write_atomically(path, lambda sink: sink.write(text))

    def blocks_folder(self) -> str:
        """A local folder for the blocks of one attempt."""
        return tempfile.mkdtemp(prefix="blocks-", dir=self.work if is_local(self.work) else None)

    def text_summary(self) -> dict[str, Any] | None:
        """What the text plane counted, or None where it has not ended."""
        path = f"{self.work}/text.json"
        return self._read(path) if exists(path) else None

    def images_done(self) -> bool:
        """Whether the image plane has ended."""
        return exists(f"{self.work}/images.json")

    def _publish_vocabulary(self, file: dict[str, Any]) -> dict[str, Any]:
        """Brings the vocabulary beside the output; returns what the manifest says of its file."""
        path = file["path"]
        if not self.description["given_vocabulary"]:  # it is the run's own
            # By its name alone: the run may go on with its folder given in another way.
            move(f"{self.work}/{Path(path).name}", f"{self.out}/{NAME}")
            path = NAME
        return file | {"path": path, "hashes": HASHING}

    def close(self) -> dict[str, Any]:
        """Writes the closing documents, the manifest last; returns what funnel.json holds.

        Raises:
          RuntimeError: the counts do not add up.
        """
        self.check_lock()
        text = self._read(f"{self.work}/text.json")
        counts = dict(text["counts"])
        kept = counts.pop("written", 0)
        text_funnel = funnel(counts, TEXT_STEPS)
        check_funnel(text_funnel, kept)
        seen = counts.get("seen", 0)
        read = text["read"].get("rows", 0)
        if read != seen:
            raise RuntimeError(
                f"the first reading found {read} rows and the second {seen}: "
                "did the input change? Delete the output folder and start again"
            )
        table, shards = text_funnel, []
        images: dict[str, Any] = {"evaluation": []}
        if not self.description["job"]["text_only"]:
            images = self._read(f"{self.work}/images.json")
            shards = sorted(map(Written._make, images["shards"]))
            if sum(shard.pairs for shard in shards) != kept:
                raise RuntimeError(
                    f"the shards were given other pairs than the {kept} that are kept"
                )
            kept = sum(shard.kept for shard in shards)
            table = funnel(add_counts([counts, images["reasons"]]))
            check_funnel(table, kept)
        manifest = self.description | {
            "versions": {name: installed()[name] for name in DECIDING},
            "pairs": kept,
            "vocabulary": text["vocabulary"]
            | {"file": self._publish_vocabulary(text["vocabulary_file"])},
            "evaluation_images": _by_set(images["evaluation"]),
            "shards": {
                f"{shard.number:05d}": {"pairs": shard.kept, "sha256": shard.sha256}
                for shard in shards
            },
        }
        closing = {"pairs": kept, "steps": table, "vocabulary": text["vocabulary"]}
        if exists(f"{self.work}/pages.json"):
            closing["pages"] = self._read(f"{self.work}/pages.json")["counts"]
        self._write(f"{self.out}/funnel.json", closing)
        card = dataset_card(manifest, table).encode()
        write_atomically(f"{self.out}/README.md", lambda sink: sink.write(card))
        self._write(f"{self.out}/manifest.json", manifest)
        self.clean()
        return closing

    def check_lock(self) -> None:
        """Raises RuntimeError where another run writes here by now."""
        if self._lock:
            self._lock.check()

    def release(self) -> None:
        """Lets other runs in."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def clean(self) -> None:
        """Takes away what the run worked with."""
        self.release()
        if is_local(self.work):
            shutil.rmtree(self.work, ignore_errors=True)
            remove_leftovers(self.out)
        else:
            FileSystems.delete([f"{self.work}/"])  # one listing, and many objects a request


def _by_set(hashed: list[tuple[str, int, int]]) -> dict[str, dict[str, int]]:
    sets: dict[str, dict[str, int]] = {}
    for name, images, unreadable in hashed:
        one = sets.setdefault(name, {"images": 0, "unreadable": 0})
        one["images"] += images
        one["unreadable"] += unreadable
    return dict(sorted(sets.items()))
