"""`alignset grow OUT --input=CRAWL2 --output=NEW` makes a dataset of the rows of OUT and of
another crawl, by OUT's rules.

1. Flags of rules come from OUT's manifest; the command adds flags of reading and fetching.
2. `Growth.check`: the rules are the same.
3. A run like any other counts and judges all rows anew; images that OUT knows are not requested.
4. `Growth.end`: `changes/` gets the keys of pairs that joined and left.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from alignset.pipeline.command_line import CommandParser
from alignset.pipeline.datasets.funnel import most_first
from alignset.pipeline.datasets.numbers import kept_keys
from alignset.pipeline.datasets.reproduce import flags_of
from alignset.pipeline.datasets.set_files import SetFiles, find_own_set, read_set
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import EarlierSet, earlier_set
from alignset.pipeline.inputs.find_lists import index_folder
from alignset.pipeline.options import GivenFlags, read_flags
from alignset.pipeline.progress import say
from alignset.pipeline.runs.documents import Grown, Manifest, RunDescription
from alignset.pipeline.runs.run_folder import RunFolder, differences
from alignset.pipeline.runs.stores import set_variables
from alignset.pipeline.settings import ABOUT, DECLARED, FILE_FLAGS, INPUT_FLAGS
from alignset.settings import declared_fields
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.records import keys_of
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.rules.given import BLOCKED, DUPLICATE_PAIR
from alignset.transforms.storage.files import exists, open_to_read, write_atomically
from alignset.transforms.storage.parquet_files import batches_of

CHANGES = "changes"  # a folder in a dataset that grew
_COMPARED = ("eval_images", "eval_index")
_OF_FETCHING = {of.name for of in declared_fields(FetchSettings)}
_OF_FETCHING -= {of.name for of in declared_fields(OptOutSettings)}
_MAY_BE_GIVEN = {*_OF_FETCHING, *FILE_FLAGS, *INPUT_FLAGS, *ABOUT, "quiet", "batch_rows", "workers"}
_MAY_BE_GIVEN |= {"input", "output", "retry_failed", "on_broken_input", "lists_changed", "progress"}


@dataclass(frozen=True)
class Growth:
    """The dataset that `alignset grow` reads.

    Attributes:
      folder: its output folder. manifest, sha256: its manifest, and the SHA-256 of that file.
    """

    folder: str
    manifest: Manifest
    sha256: str

    def check(self, run: RunDescription) -> Grown:
        """Returns which dataset grows.

        Raises:
          UsageError: the run has other rules.
        """
        if differing := differences(_rules_of(self.manifest), _rules_of(run)):
            raise UsageError(
                f"grow keeps the rules of {self.folder}, and this run would have others "
                f"({'; '.join(differing[:3])}); {_to_change_one(self.folder)}"
            )
        return Grown(self.sha256)

    def end(self, folder: RunFolder) -> Grown:
        """Writes `changes/`; returns the manifest's entry."""
        outs = self.folder, folder.out
        earlier, files = (find_own_set(out) or SetFiles(out, [], []) for out in outs)
        before, after = kept_keys(earlier), kept_keys(files)
        joined = np.setdiff1d(after, before, assume_unique=True)
        left = np.setdiff1d(before, after, assume_unique=True)
        for name, keys in (("joined", joined), ("left", left)):
            write_atomically(f"{folder.out}/{CHANGES}/{name}.u64", keys.astype("<u8").tobytes())
        asked, day = folder.work.asked(), datetime.now(UTC).date().isoformat()
        counts = len(joined), reasons_of(files, left), asked.fetched, asked.known
        return Grown(self.sha256, day, *counts)


_ABOUT = """\
Adds another crawl to a dataset, by its own rules: NEW is what one run over both
crawls would make. Only images that OUT does not know are fetched.

  --input=PATHS        the other crawl; none is needed with --retry_failed
  --output=NEW         a folder for the dataset (required)
  --retry_failed       request again what OUT could not fetch, or =DETAILS of it
  --blocklist=FILE     the lists that OUT and its takedowns were made with
  --lists_changed      these lists are newer than OUT's

Flags of `alignset curate` on reading and fetching may be passed too. Flags of rules
are refused, since OUT has its own."""


def read_growth(argv: Sequence[str], name: str = "alignset grow") -> tuple[GivenFlags, Growth]:
    """Reads the flags of the command: the flags of a run, and what is to grow.

    Raises:
      UsageError: a flag may not be given, or OUT cannot grow.
    """
    usage = "%(prog)s OUT --input=PATHS --output=NEW [flags]"
    parser = CommandParser(prog=name, usage=usage, description=_ABOUT)
    parser.add_argument("set", metavar="OUT", help="the --output of a run; may be s3:// or gs://")
    of_set, words = parser.parse_known_args(list(argv))
    out, (given, others, of_users) = of_set.set.rstrip("/"), read_flags(words, name)
    set_variables(PipelineOptions(others))  # it may be in a store
    if not given.get("input") and not given.get("retry_failed"):
        raise UsageError("pass --input=PATHS, another crawl, or --retry_failed")
    manifest, before = read_set(out)[0], earlier_set(out)
    if before is None or not before.has_rows:
        raise UsageError(
            f"{out} is of an earlier version, without images/, its ledger of images, and "
            f"cannot grow: alignset curate --input={out} --output=NEW makes one that can"
        )
    if refused := sorted(given.keys() - _MAY_BE_GIVEN):
        raise UsageError(f"--{refused[0]}: grow keeps the rules of {out}; {_to_change_one(out)}")
    paths = filter(None, (out.replace(",", "\\,"), given.get("input")))
    words.append(f"--input={','.join(paths)}")  # the last counts
    if not manifest.job["text_only"]:
        folders = filter(None, (out, given.get("images_from")))
        words.append(f"--images_from={','.join(folders)}")
    values = _settings_of(before, manifest, {*given})
    names = {*DECLARED, *(rule.name for rule in of_users.limits)}  # a manifest may be anybody's
    values = {flag: value for flag, value in values.items() if flag in names}
    own = [f"--{n}={str(v).lower() if isinstance(v, bool) else v}" for n, v in values.items()]
    with open_to_read(f"{out}/manifest.json") as source:
        growth = Growth(out, manifest, hashlib.sha256(source.read()).hexdigest())
    return read_flags([*own, *words], name), growth


def _settings_of(before: EarlierSet, manifest: Manifest, given: set[str]) -> dict[str, Any]:
    """The flags that a dataset was made by, without flags that name files: the manifest has no
    paths. These are given again, and must be the same.

    Raises:
      UsageError: a file must be given again.
    """
    flags, out = flags_of(manifest), before.folder
    index = f"{index_folder(out)}/{os.path.basename(manifest.evaluation_index or '')}"
    # `--unsafe_model=` names no file: it stays.
    files = {name: flags.pop(name) for name in FILE_FLAGS if flags.get(name)} | {"blocklist": ""}
    if not given.isdisjoint(_COMPARED):
        given = {*given, *_COMPARED}
    elif exists(f"{index}/description.json"):
        files |= dict.fromkeys(_COMPARED, "")
        flags["eval_index"] = index
    if missing := [
        f"--{name}={value}" for name, value in files.items() if value and name not in given
    ]:
        raise UsageError(f"{out} was made with {' '.join(missing):.500}: pass that again")
    if float(flags.get("holdout", 0)) >= 1:  # pairs: as many of more would be another share
        say(f"--holdout={before.held_share} is what --holdout={flags['holdout']} was in {out}")
        flags["holdout"] = before.held_share
    return {name: value for name, value in flags.items() if name not in given}


def _to_change_one(out: str) -> str:
    return f"to change one: alignset curate --input={out},CRAWL2 --output=NEW, with all flags"


def _rules_of(run: RunDescription) -> dict[str, Any]:
    """The part of a run's description that must be the same, and that flags may have changed."""
    return {
        "rules": run.rules,
        "files of rules": [[of.sha256, of.flags or []] for of in run.rule_files or []],
        "unsafe model": run.unsafe_model and run.unsafe_model.sha256,
        "evaluation images": bool(run.overlap),
        "vocabulary": run.given_vocabulary and run.given_vocabulary.sha256,
    }


def reasons_of(files: SetFiles, keys: UInt64s) -> dict[str, int]:
    """How many of some pairs were dropped for each reason, most first.

    A pair that was read several times has the reason of its first row. A pair without a row in
    `rejected/` was blocked, and its row has no key any more.

    Args:
      keys: ascending uint64[n].
    """
    reasons = np.full(len(keys), BLOCKED, object)
    for path in files.rejected_files if len(keys) else ():
        for rows in batches_of(path, ["key", "reason"]):
            dropped = keys_of(rows["key"])
            places = np.minimum(np.searchsorted(keys, dropped), len(keys) - 1)
            why = rows["reason"].to_numpy(zero_copy_only=False)
            fits = (keys[places] == dropped) & (why != DUPLICATE_PAIR)
            reasons[places[fits]] = why[fits]
    return most_first(Counter(reasons.tolist()))
