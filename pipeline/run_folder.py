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
from pipeline.fetch_report import failed_fetches
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
from transforms.reasons import FETCH_FAILED, TEXT_STEPS
from transforms.tallies import add_counts
from transforms.vocabulary_file import HASHING, NAME

# What of fetching decides whether a URL can be had at all.
FETCH_RULES = (
    *("allow_private_addresses", "max_image_bytes", "max_redirects", "user_agent"),
    *("user_agent_token", "robots_txt", "disallowed_header_directives"),
)


def describe_run(
    command: Command,
    files: Sequence[InputFile],
    evaluation: Sequence[EvaluationFile],
    vocabulary: HashFile | None = None,
) -> dict[str, Any]:
    """All that decides what the output is; how fast it is fetched and in what batches does not."""
    job = dataclasses.asdict(command.job)
    for name in ("input", "output", "batch_rows", "eval_images", "vocabulary", "retry_failed"):
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
      retry: whether the run is to be finished, and what failed in it fetched again.

    Raises:
      UsageError: the folder holds something else.
    """

    def __init__(self, out: str, description: dict[str, Any], *, retry: bool = False) -> None:
        self.out = out.rstrip("/")
        self.work = f"{self.out}/_temporary"
        self.description, self.retry = description, retry
        self.fence = Fence(f"{everywhere(self.work)}/start", uuid.uuid4().hex[:12])
        self._lock: Lock | None = None
        self.finished = self._is_finished()
        if retry or not self.finished:
            self._lock = take_lock(self.work)
            self.finished = self._is_finished()  # another run may just have ended, or begun
        if not self.finished and not exists(f"{self.work}/run.json"):
            self._write(f"{self.work}/run.json", description)
        if self._lock and is_local(self.work):
            self._remove_leftovers()

    def _is_finished(self) -> bool:
        """Whether there is nothing to do; refuses what another run, or somebody else, has made."""
        started, ended = f"{self.work}/run.json", f"{self.out}/manifest.json"
        finished = exists(ended)
        if finished or exists(started):
            there = self._description(ended if finished else started)
            # Another way of fetching may have what the first one had not.
            same = {k: v for k, v in self.description.items() if k != "fetch" or not self.retry}
            differ = _differences({k: there.get(k) for k in same}, same)
            if differ:
                self.release()
                raise UsageError(
                    f"{self.out} holds another run ({'; '.join(differ[:3])}); "
                    "give another --output, or delete that folder"
                )
        elif match(self.out) or (is_local(self.out) and Path(self.out).is_file()):
            self.release()
            raise UsageError(f"{self.out} is not empty and no run of ours; give another --output")
        self._check_retry(finished)
        return finished

    def _check_retry(self, finished: bool) -> None:
        if self.retry and not finished:
            self.release()
            raise UsageError(
                f"{self.out} holds no finished run; first give the same command without "
                "--retry_failed"
            )
        if exists(f"{self.work}/base.json") and not self.retry:
            self.release()
            raise UsageError(
                f"a --retry_failed of {self.out} was stopped; give --retry_failed to go on with it"
            )

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
        images: dict[str, Any] = {"evaluation": [], "statuses": {}, "hosts": []}
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
            "shards": _sums(shards),
        }
        tried = sum(shard.pairs for shard in shards)
        fetch = failed_fetches(tried, images["statuses"], images["hosts"])
        pages = f"{self.work}/pages.json"
        closing = {"pages": self._read(pages)["counts"]} if exists(pages) else {}
        return self._publish(manifest, table, closing | {"fetch": fetch})

    def _publish(
        self, manifest: dict[str, Any], table: list[dict[str, Any]], closing: dict[str, Any]
    ) -> dict[str, Any]:
        vocabulary = {k: v for k, v in manifest["vocabulary"].items() if k != "file"}
        closing = closing | {
            "pairs": manifest["pairs"],
            "steps": table,
            "vocabulary": vocabulary,
        }
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

    def retry_base(self) -> dict[str, Any]:
        """The closing documents that a retry begins from, kept until its end."""
        path = f"{self.work}/base.json"
        if not exists(path):
            # A `clean` that was killed may have left the plan of a retry that had ended.
            if exists(f"{self.work}/retry.json"):
                FileSystems.delete([f"{self.work}/retry.json"])
            documents = {n: self._read(f"{self.out}/{n}.json") for n in ("manifest", "funnel")}
            self._write(path, documents)
        return self._read(path)

    def retry_plan(self) -> dict[str, Any] | None:
        """How many pairs are tried again, and the shards planned for them; None before that."""
        path = f"{self.work}/retry.json"
        return self._read(path) if exists(path) else None

    def close_retry(self, base: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
        """Writes the closing documents with what a retry brought.

        Raises:
          RuntimeError: the counts do not add up.
        """
        self.check_lock()
        if not plan["pairs"]:
            self.clean()
            return base["funnel"]
        images = self._read(f"{self.work}/images.json")
        shards = sorted(map(Written._make, images["shards"]))
        steps, manifest = base["funnel"]["steps"], base["manifest"]
        dropped = [step["dropped"] for step in steps]
        # Every failure was tried again, and is counted where that ended.
        failed = sum(counts.get(FETCH_FAILED, 0) for counts in dropped)
        if not failed == plan["pairs"] == sum(shard.pairs for shard in shards):
            raise RuntimeError(
                f"{failed} fetches had failed and {plan['pairs']} were tried again: "
                "was a file in rejected/ changed?"
            )
        counts = add_counts([*dropped, images["reasons"]])
        counts[FETCH_FAILED] -= failed
        table = funnel(counts | {"seen": steps[0]["seen"]})
        kept = sum(shard.kept for shard in shards)
        check_funnel(table, manifest["pairs"] + kept)
        retried = {
            "tried": failed,
            "kept": kept,
            "shards": [shards[0].number, shards[-1].number],
            "fetch": self.description["fetch"],
        }
        fetch = failed_fetches(failed, images["statuses"], images["hosts"])
        fetch |= {"tried": base["funnel"]["fetch"]["tried"]}
        return self._publish(
            manifest
            | {
                "pairs": manifest["pairs"] + kept,
                "shards": manifest["shards"] | _sums(shards),
                "retries": [*manifest.get("retries", []), retried],
            },
            table,
            base["funnel"] | {"fetch": fetch},
        )

    def release(self) -> None:
        """Lets other runs in."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def clean(self) -> None:
        """Takes away what the run worked with."""
        self.release()
        if is_local(self.work):
            Path(self.work, "base.json").unlink(missing_ok=True)  # no retry is to go on from here
            shutil.rmtree(self.work, ignore_errors=True)
            remove_leftovers(self.out)
        else:
            FileSystems.delete([f"{self.work}/"])  # one listing, and many objects a request


def _sums(shards: list[Written]) -> dict[str, dict[str, Any]]:
    return {
        f"{shard.number:05d}": {"pairs": shard.kept, "sha256": shard.sha256} for shard in shards
    }


def _by_set(hashed: list[tuple[str, int, int]]) -> dict[str, dict[str, int]]:
    sets: dict[str, dict[str, int]] = {}
    for name, images, unreadable in hashed:
        one = sets.setdefault(name, {"images": 0, "unreadable": 0})
        one["images"] += images
        one["unreadable"] += unreadable
    return dict(sorted(sets.items()))
