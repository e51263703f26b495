"""The commands that make a dataset again, from its manifest."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from msgspec import UnsetType

from alignset.pipeline.job import Job
from alignset.pipeline.rule_files import SCORE_MODEL
from alignset.pipeline.rules import REPORTED, Rules
from alignset.pipeline.runs.documents import Manifest, NamedList, RunDescription
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.rules.catalogue import KEEP_MOST_SIMILAR, LIKE
from alignset.transforms.rules.columns import REQUIRED
from alignset.transforms.rules.concepts import MAX_PAIRS_PER_CONCEPT

_NAMED_FILES = 3  # of the input
_LINE = 90  # characters
# Flags of a dataset's source, which the dataset itself does not have.
_OF_ANOTHER_INPUT = ("input_format", "url_column", "text_column", "base_url", "also_rejected")
# Rules whose outcome depends on all pairs that the source has, and of which the dataset holds the
# outcome.
_OF_THE_WHOLE = (
    *("vocabulary_size", KEEP_MOST_SIMILAR, LIKE),
    *(MAX_PAIRS_PER_CONCEPT.name, "concepts"),
)
_USUAL_MODEL = "open-nsfw.onnx"  # of `--unsafe_model=opennsfw`


def commands(manifest: Manifest) -> list[str]:
    """The commands that made a dataset, fetched again, took down and deduplicated, for a shell.

    Each flag that decides what is kept is there if it was not the default, but for
    `--allow_private_addresses`. Files are named without
    the machine's folders. How fast was fetched, and with how many attempts, no manifest tells.
    """
    curate_words, retries = ["alignset curate", *_flags(manifest)], manifest.retries or []
    again = [
        [*_with_lists(curate_words, retry.blocklists), f"--retry_failed={','.join(retry.details)}"]
        for retry in retries
    ]
    takedowns = [
        ["alignset takedown OUT", *_with_lists([], takedown.lists)]
        + ["--forget_blocked"] * takedown.forgotten
        + ([_flag("reason", takedown.reason)] if takedown.reason else [])
        for takedown in manifest.takedowns or []
    ]
    deduplications = [
        ["alignset deduplicate OUT", *["--near"] * bool(of.near)]
        for of in manifest.deduplications or []
    ]
    return [_on_lines(words) for words in (curate_words, *again, *takedowns, *deduplications)]


def _with_lists(words: Sequence[str], lists: list[NamedList] | UnsetType) -> list[str]:
    """A command with these blocklists in place of others."""
    others = [word for word in words if not word.startswith("--blocklist=")]
    return [*others, _lists_flag(lists)] if lists else others


def _lists_flag(lists: Sequence[NamedList]) -> str:
    """The flag that names some lists again: no document has the names of their files."""
    return _flag("blocklist", ",".join(f"{of.name}=FILE" for of in lists))


def _on_lines(words: Sequence[str]) -> str:
    """A command on as many lines as it needs."""
    lines, line = [], ""
    for word in words:
        if line and len(line) + len(word) > _LINE:
            lines.append(f"{line} \\")
            line = f"  {word}"
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, line])


def _flags(manifest: Manifest) -> Iterator[str]:
    names = sorted({Path(file.path).name for file in manifest.input})
    more = [f"AND_{len(names) - _NAMED_FILES}_MORE"] if len(names) > _NAMED_FILES else []
    yield _flag("input", ",".join([*names[:_NAMED_FILES], *more]))
    yield "--output=OUT"
    flag_name = open_flag(manifest)
    rules = _rules(manifest)
    if flag_name:
        rules = {
            name: value for name, value in rules.items() if name not in manifest.catalogue.opened
        }
    yield from _settings(manifest, manifest.job, rules)
    if flag_name and not manifest.job.get("columns"):
        yield "--columns="  # which is all otherwise
    yield from _files_of_rules(manifest, flag_name)


def flags_on_set(run: RunDescription) -> list[str]:
    """The flags that give a dataset's own rules to a run that has the dataset as its input; all but
    that, the output, and the vocabulary, which is the dataset's own. Rules that keep a part of what
    is there are left out: they would keep a part of that part.

    Files are named without the machine's folders: whoever runs it gives their paths.
    """
    job = {name: value for name, value in run.job.items() if name not in _OF_ANOTHER_INPUT}
    rules = {name: value for name, value in _rules(run).items() if name not in _OF_THE_WHOLE}
    return [*_settings(run, job, rules), *_files_of_rules(run, "")]


def relative_flags(run: RunDescription) -> list[str]:
    """The flags of a run that `flags_on_set` leaves out, without the vocabulary's and lists."""
    names = (KEEP_MOST_SIMILAR, LIKE, MAX_PAIRS_PER_CONCEPT.name)
    off = {KEEP_MOST_SIMILAR: 1, LIKE: "", MAX_PAIRS_PER_CONCEPT.name: MAX_PAIRS_PER_CONCEPT.opened}
    return [name for name in names if run.rules.get(name, off[name]) != off[name]]


def _settings(run: RunDescription, *changes: Mapping[str, Any]) -> Iterator[str]:
    job, rules = changes
    # Whoever made the dataset does not decide that this machine's network is open.
    fetch = {n: value for n, value in run.fetch.items() if n != "allow_private_addresses"}
    for kind, values in (
        (Job, job),
        (Rules, rules),
        (ResizeSettings, run.resize),
        (FetchSettings, fetch),
    ):
        yield from _changes(kind, values)
    for name, _, column in (rule.partition("=") for rule in rules if "=" in rule):
        value = "" if name == REQUIRED else f"={rules[f'{name}={column}']}"
        yield _flag(name, f"{column}{value}")


def _rules(manifest: RunDescription) -> dict[str, Any]:
    """The rules that a flag gave: not a distance without evaluation images, or of score_only."""
    rules = dict(manifest.rules)
    if not manifest.overlap or rules.get("min_evaluation_distance") == 0:
        rules.pop("min_evaluation_distance", None)
    if name := rules.get("concepts"):
        rules["concepts"] = str(name).rpartition("@")[0]
    return rules


def open_flag(run: RunDescription) -> str:
    """The flag by which a run dropped nothing but copies, or nothing; "" where it had rules."""
    rules, fetch = run.rules, run.fetch
    is_open = all(rules.get(name, value) == value for name, value in run.catalogue.opened.items())
    if not is_open or not all(fetch.get(name) == value for name, value in REPORTED.items()):
        return ""
    is_scored = bool(run.unsafe_model) or not rules.get("min_evaluation_distance", 1)
    return "score_only" if is_scored else "decontaminate_only" if run.overlap else ""


def _changes(kind: type, values: Mapping[str, Any]) -> Iterator[str]:
    """The flags whose values are not the defaults."""
    for setting in fields(kind):
        value = values.get(setting.name, setting.default)
        if value != setting.default:
            yield f"--{setting.name}" if value is True else _flag(setting.name, str(value))


def _custom(manifest: RunDescription) -> Iterator[str]:
    """The files with rules of users, and their flags."""
    files = manifest.rule_files or []
    if own_files := [of for of in files if not of.name.startswith(SCORE_MODEL)]:
        words = ([f"{of.name}:{flag}" for flag in of.flags or []] or [of.name] for of in own_files)
        yield _flag("rules", ",".join(word for of_file in words for word in of_file))
    for rule in (rule for file in files for rule in file.rules):
        value = manifest.rules.get(str(rule["name"]), rule["default"])
        if value != rule["default"]:
            yield _flag(str(rule["name"]), str(value))


def _files_of_rules(manifest: RunDescription, flag_name: str) -> Iterator[str]:
    """Settings with a form of their own in the manifest: a vocabulary, evaluation images, a
    classifier."""
    yield from _custom(manifest)
    if manifest.blocklists:
        yield _lists_flag(manifest.blocklists)
    if manifest.given_vocabulary:
        yield _flag("vocabulary", Path(manifest.given_vocabulary.path).name)
    if flag_name:
        yield f"--{flag_name}"
    if manifest.overlap:
        sets = {file.name: file.path for file in manifest.evaluation}
        if sets:
            items = (f"{name}={Path(path).parent.name or name}" for name, path in sets.items())
            yield _flag("eval_images", ",".join(items))
        elif index := manifest.overlap.get("index"):
            yield _flag("eval_index", str(index))
    score = manifest.rules.get("max_unsafe_score", 0)
    off = not isinstance(score, int | float) or (score >= 1 and flag_name != "score_only")
    if manifest.job.get("text_only") or off:
        return
    model = Path(manifest.unsafe_model.path).name if manifest.unsafe_model else ""
    if model != _USUAL_MODEL:
        yield _flag("unsafe_model", model)


def _flag(name: str, value: str) -> str:
    """A flag as a shell takes it; a manifest may be anybody's, and name a rule like a command."""
    option, plain = (
        "".join(c if c.isprintable() else "?" for c in text) for text in (f"--{name}", value)
    )
    return f"{shlex.quote(option)}={shlex.quote(plain) if plain else ''}"
