"""The plan of an ablation, read from its own flags and the flags of `curate` and `train`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignset.ablate.variants import ALL, WITHOUT, Flags, Variant, curate_words, variants_of
from alignset.pipeline.command import Command
from alignset.pipeline.command_line import CommandParser
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import earlier_set
from alignset.pipeline.job import split_inputs
from alignset.pipeline.options import SEVERAL, GivenFlags, make_command, read_flags
from alignset.train.__main__ import parse_flags
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError
from alignset.train.evaluate.retrieval import KS
from alignset.train.settings import Settings
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.rules.catalogue import PRODUCT
from alignset.transforms.rules.columns import VERIFIED
from alignset.transforms.rules.overlap import MIN_EVALUATION_DISTANCE
from alignset.transforms.rules.unsafe import MAX_UNSAFE_SCORE

# Flags of `curate` that the variants have too, beside the flags of rules.
_OF_VARIANTS = ("rules", "duplicates", "batch_rows")
# The values that drop nothing, by flags that have no threshold.
_OFF = {"duplicates": "keep", "keep_most_similar": 1.0, "like": ""}
# Flags that another flag needs to have an effect, by that flag.
_WITH = {"language": ("min_language_score", "words_per_language", "like", "language_detector")}
_REFUSED = {
    **dict.fromkeys(
        (field.name for field in dataclasses.fields(ResizeSettings)),
        "the trainer resizes, and rules judge the size of the images as they came",
    ),
    "holdout": "--eval names what is evaluated on",
    "score_only": "the pool is measured so in any case",
    "decontaminate_only": "the pool has no copies of evaluation images in any case",
    "text_only": "a model is trained on images",
    "vocabulary": "it is counted over the pool",
    "retry_failed": "run it on the folder pool/ of the output",
    "score_model": "score the pairs first (curate --score_only --score_model=…), and pass that "
    "dataset as --input with --min_column=similarity=…",
}


@dataclass(frozen=True)
class Plan:
    """An ablation.

    Attributes:
      out: its folder. evals: what is evaluated on, by name.
      budgets: samples seen. seeds: how many trainings of each kind. jobs: processes; 0: by the
        machine.
      recall_at: k of the results' R@k.
      pool_flags: of `curate`, for the pool; beam: words of Beam's flags, for that run too.
      variants: what is compared.
      train: flags of `train`. training: the settings that they make.
      settings: what must be the same when an ablation is resumed.
    """

    out: Path
    evals: Mapping[str, str]
    budgets: tuple[int, ...]
    seeds: int
    jobs: int
    recall_at: int
    pool_flags: Flags
    beam: tuple[str, ...]
    variants: tuple[Variant, ...]
    train: tuple[str, ...]
    training: Settings
    settings: Mapping[str, Any]


def parser(name: str) -> argparse.ArgumentParser:
    """The parser of the command's own flags."""
    own_parser = CommandParser(
        prog=name,
        usage="%(prog)s --input=PAIRS --output=FOLDER --eval=DATA [flags]",
        description="Shows which rules help on your data: curates it once with every rule off,\n"
        "trains a small model per variant on equal numbers of samples, and compares\n"
        "them: raw, a random part, all rules, all but one each, DataComp's, COYO's.",
        epilog="Any other flag is one of alignset curate: its rules are those compared.",
    )
    flags = (
        ("input", "PATHS", None, "as of curate: pairs, pages, shards or a dataset"),
        ("output", "FOLDER", None, "a folder of this machine; resumes what is in it"),
        ("eval", "DATA", None, "images with captions, as NAME=SHARDS,... or SHARDS"),
        ("budgets", "N,...", "12800,38400,115200", "samples seen, ascending (%(default)s)"),
        ("seeds", "N", 5, "trainings for each variant and budget (%(default)s)"),
        ("jobs", "N", 0, "trainings at once (one a core, or one with a GPU)"),
        ("train", "FLAGS", "", 'of alignset train: "--preset=tiny --crop_px=40"'),
        ("recall_at", "K", 1, "1, 5 or 10: R@K of the results (%(default)s)"),
        ("variants", "NAMES", "", "only these: raw,random,all,without-min_words,..."),
    )
    for flag, metavar, default, meaning in flags:
        own_parser.add_argument(
            f"--{flag}",
            metavar=metavar,
            default=default,
            required=default is None,
            type=int if isinstance(default, int) else str,
            help=meaning,
        )
    return own_parser


def read_plan(argv: Sequence[str], name: str) -> Plan:
    """Reads the command line.

    Raises:
      UsageError: a flag is wrong, or the folder holds another ablation.
    """
    flags, words = parser(name).parse_known_args(list(argv))
    out, evals, budgets = Path(flags.output), _evals(flags.eval), _budgets(flags.budgets)
    if "://" in flags.output:
        raise UsageError(f"--output={flags.output}: name a folder of this machine")
    for count, least in (("seeds", 1), ("jobs", 0)):
        if getattr(flags, count) < least:
            raise UsageError(f"--{count} must be >= {least}; got {getattr(flags, count)}")
    if flags.recall_at not in KS:
        raise UsageError(f"--recall_at must be 1, 5 or 10; got {flags.recall_at}")
    for word in words:  # before a model is opened that one of them names
        if why := _REFUSED.get(word.partition("=")[0].removeprefix("--")):
            raise UsageError(f"{word.partition('=')[0]} is of no use here: {why}")
    given_flags = read_flags([f"--input={flags.input}", f"--output={out / 'pool'}", *words], name)
    images = [
        given_flags.ours.get("eval_images"),
        *(f"{name}={path}" for name, path in evals.items()),
    ]
    given_flags.ours["eval_images"] = ",".join(filter(None, images))
    command = make_command(given_flags)
    for limit in command.rules.catalogue.custom:
        if limit.opened is None:
            raise UsageError(
                f"--rules: the rule {limit.name} has no `opened`, the threshold that drops "
                "nothing: give it one, or the pool lacks what it drops"
            )
    variants = _choose(flags.variants, _variants(given_flags, command))
    for variant in variants:  # what is wrong with one is said before anything runs
        make_command(read_flags(curate_words(variant.run_flags(out))))
    train, training = _train_flags(flags.train)
    settings = {
        **{"input": flags.input, "eval": evals, "curate": sorted(words), "train": flags.train}
    }
    return Plan(
        out,
        evals,
        budgets,
        flags.seeds,
        flags.jobs,
        flags.recall_at,
        _pool_flags(given_flags, command),
        tuple(given_flags.others),
        variants,
        train,
        training,
        settings,
    )


def open_folder(plan: Plan) -> None:
    """Makes the folder of an ablation, or finds it.

    Raises:
      UsageError: it is of other data or flags.
    """
    file = plan.out / "settings.json"
    if file.exists():
        before = json.loads(file.read_text())
        for name, value in plan.settings.items():
            if before.get(name) != value:
                raise UsageError(
                    f"{plan.out} was begun with another --{name} ({before.get(name)!r:.200}): pass "
                    "that, or another --output"
                )
        return
    if plan.out.exists() and any(plan.out.iterdir()):
        raise UsageError(f"{plan.out} is not empty, and holds no ablation: name a new folder")
    for folder in ("logs", "points", "variants"):
        (plan.out / folder).mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(plan.settings, indent=2))


def filtered_inputs(patterns: str) -> dict[str, list[str]]:
    """The datasets of ours among inputs that rules have dropped pairs of, with the reasons."""
    sets = filter(None, map(earlier_set, split_inputs(patterns)))
    of_rules = {rule.reason for rule in PRODUCT.rules}
    reasons = {
        of.folder: [r for r, n in of.dropped().items() if n and r in of_rules] for of in sets
    }
    return {folder: names for folder, names in reasons.items() if names}


def _evals(text: str) -> dict[str, str]:
    paths: dict[str, str] = {}
    for number, part in enumerate(text.split(",")):
        name, equals, path = part.partition("=")
        name, path = (name, path) if equals else (f"eval{number or ''}", part)
        if name in paths or not re.fullmatch(r"[\w.-]+", name):
            raise UsageError(
                f"--eval: {name!r} must be a name of letters, digits, '.', '_' and '-', once; pass "
                "NAME=SHARDS,..."
            )
        paths[name] = path
    return paths


def _budgets(text: str) -> tuple[int, ...]:
    try:
        budgets = tuple(int(part.replace("_", "")) for part in text.split(","))
    except ValueError:
        budgets = ()
    if not budgets or min(budgets) < 1 or list(budgets) != sorted(set(budgets)):
        raise UsageError(f"--budgets must be ascending numbers, such as 12800,38400; got {text!r}")
    return budgets


def _train_flags(text: str) -> tuple[tuple[str, ...], Settings]:
    """The flags of `train`, and the settings that they make."""
    words = tuple(shlex.split(text))
    own = ("shards", "run", "steps", "epochs", "seed", "validate")
    for word in words:
        if (name := word.partition("=")[0].removeprefix("--")) in own:
            raise UsageError(f"--train: --{name} is set by alignset ablate: leave it out")
    try:
        settings, _, _ = parse_flags(["--shards=SHARDS", "--run=RUN", *words])
    except SettingsError as error:
        raise UsageError(f"--train: {error}") from error
    return words, settings


def _pool_flags(given_flags: GivenFlags, command: Command) -> Flags:
    """Flags of the one run that fetches, with every rule off and everything measured. Only that run
    can compare files with the input's hashes."""
    rules = {field.name for field in dataclasses.fields(given_flags.rules)} - {VERIFIED}
    flags = {name: value for name, value in given_flags.ours.items() if name not in rules}
    flags.pop("duplicates", None)
    flags |= {"score_only": True, "opt_outs": "reject"}
    flags |= {MIN_EVALUATION_DISTANCE.name: command.rules.min_evaluation_distance}
    if MAX_UNSAFE_SCORE.is_off(command.rules.max_unsafe_score):
        flags["unsafe_model"] = ""
    columns = [flags.get("columns", ""), *command.rules.judged_columns]
    if any(columns):
        flags["columns"] = ",".join(dict.fromkeys(filter(None, columns)))
    return flags


def _variants(given_flags: GivenFlags, command: Command) -> list[Variant]:
    rules = {field.name for field in dataclasses.fields(given_flags.rules)}
    flag_names = {*rules, *_OF_VARIANTS} - {MIN_EVALUATION_DISTANCE.name, VERIFIED}
    flags = {name: value for name, value in given_flags.ours.items() if name in flag_names}
    open_values: dict[str, object] = {
        name: value
        for name, value in command.rules.catalogue.opened.items()
        if name in flag_names and getattr(command.rules, name) != value
    }
    open_values |= {name: off for name, off in _OFF.items() if flags.get(name, off) != off}
    variants = variants_of(flags, open_values, command.rules.max_unsafe_score, _WITH)
    for rule in set(SEVERAL) & flags.keys():
        parts = str(flags[rule]).split(",")
        for part in parts:
            others = {**flags, rule: ",".join(other for other in parts if other != part)}
            name = f"{WITHOUT}{rule}={part.partition('=')[0]}"
            about = f"all rules but --{rule}={part}"
            variants.append(Variant(name, about, others, command.rules.max_unsafe_score))
    return variants


def _choose(text: str, variants: list[Variant]) -> tuple[Variant, ...]:
    if not text:
        return tuple(variants)
    names = {variant.name for variant in variants}
    for name in text.split(","):
        if name not in names:
            raise UsageError(
                f"--variants: there is no {name!r}; there are {', '.join(sorted(names))}"
            )
    chosen_names = {*text.split(","), ALL}  # which the others are compared with
    return tuple(variant for variant in variants if variant.name in chosen_names)
