"""The commands that make a dataset again, from its manifest; they name files without folders."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.splits import ROWS
from alignset.pipeline.rule_files import SCORE_MODEL
from alignset.pipeline.runs.documents import Manifest, NamedList, RunDescription
from alignset.pipeline.settings import DOCUMENTED, REPORTED
from alignset.settings import declared_fields
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.rules.columns import REQUIRED

_LINE = 90  # characters; a longer command has a line for each flag
_USUAL_MODEL = "open-nsfw.onnx"  # of `--unsafe_model=opennsfw`


def commands(manifest: Manifest) -> list[str]:
    """The commands that made a dataset, took down and deduplicated, for a shell. EARLIER is a
    dataset that was read as rows."""
    names = sorted({Path(file.path).name for file in manifest.input if file.format != ROWS})
    names = [*names[:3], f"AND_{len(names) - 3}_MORE"] if len(names) > 3 else names
    if manifest.grown:
        crawl: dict[str, Any] = {"input": ",".join(names)} if names else {"retry_failed": True}
        made = [("grow EARLIER", crawl | {"output": "OUT"} | _blocklist(manifest.blocklists or []))]
    else:
        names = [*(["EARLIER"] if any(of.format == ROWS for of in manifest.input) else []), *names]
        made = [("curate", {"input": ",".join(names), "output": "OUT"} | flags_of(manifest))]
    for of in manifest.takedowns or []:
        if of.evidence:
            flags = ("images", "apply", "gone") if of.reason else ("apply",)
            made.append(("recheck OUT", dict.fromkeys(flags, True)))
            continue
        more = {"forget_blocked": of.forgotten, "reason": of.reason}
        chosen = {name: value for name, value in more.items() if value}
        made.append(("takedown OUT", _blocklist(of.lists) | chosen))
    for done in manifest.deduplications or []:
        made.append(("deduplicate OUT", {"near": True} if done.near else {}))
    lines = [[f"alignset {name}", *words_of(own)] for name, own in made]
    return [
        one_line if len(one_line := " ".join(words)) <= _LINE else " \\\n  ".join(words)
        for words in lines
    ]


def words_of(flags: Mapping[str, Any]) -> list[str]:
    """Flags as a shell takes them; a manifest may be anybody's, and name a rule like a command."""
    words = []
    for name, value in flags.items():
        texts = (f"--{name}", "" if value is True else str(value))
        option, text = ("".join(c if c.isprintable() else "?" for c in part) for part in texts)
        equals = "" if value is True else f"={shlex.quote(text) if text else ''}"
        words.append(f"{shlex.quote(option)}{equals}")
    return words


def flags_of(run: RunDescription) -> dict[str, Any]:
    """The flags of a run that were not at their defaults, by name, and its files without folders.

    Not `allow_private_addresses`: whoever made a dataset does not decide that this machine's
    network is open. How fast was fetched, and with how many attempts, no manifest tells.
    """
    flag_name, overlap = open_flag(run), run.overlap or {}
    has_distance = flag_name != "score_only" and overlap and run.overlap_measure == "copy"
    values = run.job | run.rules | run.resize | run.fetch
    values["allow_private_addresses"] = False
    values["concepts"] = str(values.get("concepts", "")).rpartition("@")[0]
    if not has_distance:
        values.pop("min_evaluation_distance", None)
    if flag_name:
        values = {name: of for name, of in values.items() if name not in run.catalogue.opened}
    defaults = {of.name: of.default for kind in DOCUMENTED.values() for of in declared_fields(kind)}
    rule_files = run.rule_files or []
    own_rules = [rule for of in rule_files for rule in of.rules if {"name", "default"} <= {*rule}]
    defaults |= {str(rule["name"]): rule["default"] for rule in own_rules}
    flags = {n: values[n] for n, usual in defaults.items() if values.get(n, usual) != usual}
    for name, _, column in (rule.partition("=") for rule in run.rules if "=" in rule):
        value = column if name == REQUIRED else f"{column}={run.rules[f'{name}={column}']}"
        flags[name] = f"{flags[name]},{value}" if name in flags else value
    if flag_name:
        flags |= {flag_name: True} | ({} if "columns" in flags else {"columns": ""})  # else all
    own_files = [of for of in rule_files if not of.name.startswith(SCORE_MODEL)]
    words = [f"{of.name}:{flag}" for of in own_files for flag in of.flags or []]
    words += [of.name for of in own_files if not of.flags]
    sets = {of.name: Path(of.path).parent.name or of.name for of in run.evaluation}
    score = run.rules.get("max_unsafe_score", 0)
    is_scored = isinstance(score, int | float) and (score < 1 or flag_name == "score_only")
    model = Path(run.unsafe_model.path).name if run.unsafe_model else ""
    texts = {
        "rules": ",".join(words),
        "vocabulary": Path(run.given_vocabulary.path).name if run.given_vocabulary else "",
        "eval_images": ",".join(f"{name}={folder}" for name, folder in sets.items()),
        "eval_index": "" if sets else str(overlap.get("index", "")),
    }
    flags |= {name: text for name, text in texts.items() if text}
    if is_scored and not run.job.get("text_only") and model != _USUAL_MODEL:
        flags["unsafe_model"] = model
    return flags | _blocklist(run.blocklists or [])


def fetch_settings(run: RunDescription, changes: Mapping[str, Any]) -> FetchSettings:
    """How a run fetched, with changes; what no manifest tells is as by default.

    Raises:
      UsageError: there are no such settings.
    """
    names = {of.name for of in declared_fields(FetchSettings)}
    own: dict[str, Any] = {name: value for name, value in run.fetch.items() if name in names}
    try:
        return FetchSettings(**own | dict(changes))
    except (TypeError, ValueError) as error:
        raise UsageError(f"settings of fetching: {error}") from error


def _blocklist(lists: Iterable[NamedList]) -> dict[str, str]:
    """The flag that names some lists again: no document has the names of their files."""
    names = ",".join(f"{of.name}=FILE" for of in lists)
    return {"blocklist": names} if names else {}


def open_flag(run: RunDescription) -> str:
    """The flag by which a run dropped nothing but copies, or nothing; "" where it had rules."""
    rules, opened = run.rules, run.catalogue.opened
    is_open = all(rules.get(name, value) == value for name, value in opened.items())
    if not is_open or not REPORTED.items() <= run.fetch.items():
        return ""
    is_scored = bool(run.unsafe_model) or not rules.get("min_evaluation_distance", 1)
    return "score_only" if is_scored else "decontaminate_only" if run.overlap else ""
