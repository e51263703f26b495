"""Shows which rules help on your data: curates it once with every rule off,
trains a small model per variant on equal numbers of samples, and compares
them: raw, a random part, all rules, all but one each, DataComp's, COYO's.
"""

import argparse
import re
import shlex
from collections.abc import Sequence
from typing import Any

from alignset.ablate.pool import ALL, RANDOM, Flags, Variant
from alignset.pipeline.command_line import CommandParser
from alignset.pipeline.errors import UsageError
from alignset.pipeline.options import GivenFlags, make_settings, read_flags
from alignset.pipeline.settings import DECLARED, Settings
from alignset.settings import declared_fields
from alignset.train.__main__ import parse_flags
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.evaluate.image_sets import find_captioned
from alignset.train.evaluate.task_table import RetrievalSettings
from alignset.train.runs.flags import local_folder
from alignset.transforms.images.resize_settings import ResizeSettings
from alignset.transforms.rules.columns import VERIFIED
from alignset.transforms.rules.recipes import RECIPES
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.rules.thresholds import MAX_UNSAFE_SCORE, MIN_EVALUATION_DISTANCE

# Every variant's dataset is read once and removed, and the pool has the scores.
_BARE = {"thumbnails": 0, MAX_UNSAFE_SCORE.name: MAX_UNSAFE_SCORE.opened, "quiet": True}
_DATACOMP = "DataComp's basic filter: English, more than 2 words and 5 characters, sizes"
_COYO = (
    "COYO's filter: English, 3 to 256 words, texts on 10 images at most, sizes, NSFW, equal "
    "pHash and text once"
)
# With what a recipe leaves out of its source and a pool can have.
BASELINES = (
    Variant(
        "datacomp-basic", _DATACOMP, {**RECIPES["datacomp-basic"], **_BARE}, 1.0, (6, float("inf"))
    ),
    Variant("coyo", _COYO, {**RECIPES["coyo"], **_BARE}, 0.5, (5, 1000), True),
)
# The values that drop nothing, by flags that have no threshold.
_OFF = {"duplicates": "keep", "keep_most_similar": 1.0}
# Flags that another flag needs to have an effect, by that flag.
_WITH = {"language": ("min_language_score", "words_per_language", "language_detector")}
_RESIZES = "the trainer resizes, and rules judge the size of the images as they came"
_REFUSED = {
    **{field.name: _RESIZES for field in declared_fields(ResizeSettings)},
    "holdout": "--eval names what is evaluated on",
    "score_only": "the pool is measured so in any case",
    "decontaminate_only": "the pool has no copies of evaluation images in any case",
    "text_only": "a model is trained on images",
    "vocabulary": "it is counted over the pool",
    "retry_failed": "grow the folder pool/ of the output with it, and pass that as --input",
    "score_model": "score the pairs first (curate --score_only --score_model=…), and pass that "
    "dataset as --input with --min_column=similarity=…",
}
# Of `train`.
_OWN = {"--shards", "--run", "--output", "--steps", "--epochs", "--seed", "--validate"}


def _evals(text: str) -> dict[str, str]:
    paths: dict[str, str] = {}
    for number, part in enumerate(text.split(",")):
        name, path = part.split("=", 1) if "=" in part else (f"eval{number or ''}", part)
        if name in paths or not re.fullmatch(r"[\w.-]+", name):
            allowed = "a name of letters, digits, '.', '_' and '-', once; pass NAME=SHARDS,..."
            raise argparse.ArgumentTypeError(f"{name!r} must be {allowed}")
        paths[name] = path
    return paths


def _budgets(text: str) -> list[int]:
    budgets = [int(part) for part in text.replace("_", "").split(",") if part.isdecimal()]
    if len(budgets) <= text.count(",") or budgets != sorted({*budgets} - {0}):
        raise argparse.ArgumentTypeError(f"must be ascending, such as 128,256; got {text!r}")
    return budgets


_FLAGS: tuple[tuple[str, str, Any, Any, str], ...] = (
    ("input", "PATHS", str, None, "as of curate: pairs, pages, shards or a dataset"),
    ("output", "FOLDER", local_folder, None, "a folder of this machine; resumes what is in it"),
    ("eval", "DATA", _evals, None, "images with captions, as NAME=SHARDS,... or SHARDS"),
    ("budgets", "N,...", _budgets, "12800,38400,115200", "samples seen (%(default)s)"),
    ("seeds", "N", int, 5, "trainings for each variant and budget (%(default)s)"),
    ("jobs", "N", int, 0, "trainings at once (one per core, or one with a GPU)"),
    ("train", "FLAGS", str, "", 'of alignset train: "--preset=tiny --crop_px=40"'),
    ("recall_at", "K", int, 1, "1, 5 or 10: R@K of the results (%(default)s)"),
    ("variants", "NAMES", str, "", "only these: raw,random,all,without-min_words,..."),
)


def read_plan(argv: Sequence[str], name: str) -> argparse.Namespace:
    """Reads the command line, and raises UsageError where a flag is wrong.

    Returns:
      the own flags, but `variants` are a list; `pool_flags` and `beam` (words) of the pool's run;
      `settings` of `train`; and what must be the `same` when the ablation is resumed.
    """
    parser = CommandParser(
        prog=name,
        usage="%(prog)s --input=PAIRS --output=FOLDER --eval=DATA [flags]",
        description=__doc__,
        epilog="Any other flag is one of alignset curate: its rules are those compared.",
    )
    for flag, metavar, kind, default, about in _FLAGS:
        how = {"default": default, "required": default is None, "metavar": metavar, "help": about}
        parser.add_argument(f"--{flag}", type=kind, **how)
    plan, words = parser.parse_known_args(list(argv))
    if plan.seeds < 1 or plan.jobs < 0 or plan.recall_at not in (1, 5, 10):
        raise UsageError("--seeds must be >= 1, --jobs >= 0, and --recall_at 1, 5 or 10")
    for word in words:  # before a model is opened that one of them names
        if why := _REFUSED.get(word.partition("=")[0].removeprefix("--")):
            raise UsageError(f"{word.partition('=')[0]} is of no use here: {why}")
    train = shlex.split(plan.train)
    if doubled := _OWN.intersection(word.partition("=")[0] for word in train):
        raise UsageError(f"--train: {min(doubled)} is set by alignset ablate: leave it out")
    pool = plan.output / "pool"
    given_flags = read_flags([f"--input={plan.input}", f"--output={pool}", *words], name)
    images = [given_flags.ours.get("eval_images"), *map("=".join, plan.eval.items())]
    given_flags.ours["eval_images"] = ",".join(filter(None, images))
    settings = make_settings(given_flags)
    for limit in settings.catalogue.custom:
        if limit.opened is None:
            raise UsageError(
                f"--rules: the rule {limit.name} has no `opened`, the threshold that drops "
                "nothing: give it one, or the pool lacks what it drops"
            )
    variants = _variants(given_flags, settings)
    known = sorted(variant.name for variant in variants)
    chosen = plan.variants.split(",") if plan.variants else known
    if unknown := {*chosen}.difference(known):
        raise UsageError(f"--variants: there is no {min(unknown)!r}; there are {', '.join(known)}")
    # The others are compared with all rules.
    plan.variants = [variant for variant in variants if variant.name in (*chosen, ALL)]
    about = "--train"
    try:
        plan.settings, _, _ = parse_flags(["--shards=SHARDS", "--run=RUN", *train])
        for set_name, data in plan.eval.items():
            about = f"--eval={set_name}={data}"
            captioned_set = find_captioned(RetrievalSettings(model="", data=data))
            if not any(item.about for item in captioned_set):
                raise SettingsError(f"{data} has no image with a caption")
    except (SettingsError, TrainingError) as error:
        raise UsageError(f"{about}: {error}") from error
    plan.pool_flags, plan.beam = _pool_flags(given_flags, settings), given_flags.others
    plan.same = {"input": plan.input, "eval": plan.eval, "curate": sorted(words)}
    plan.same["train"] = plan.train
    return plan


def _pool_flags(given_flags: GivenFlags, settings: Settings) -> Flags:
    """Flags of the one run that fetches, with every rule off and everything measured. Only that run
    can compare files with the input's hashes."""
    varied = (_rule_flags(given_flags) - {VERIFIED}) | {"duplicates", "recipe"}
    flags = {name: value for name, value in given_flags.ours.items() if name not in varied}
    flags |= {"score_only": True, "opt_outs": "reject"}
    flags[MIN_EVALUATION_DISTANCE.name] = settings.min_evaluation_distance
    if MAX_UNSAFE_SCORE.is_off(settings.max_unsafe_score):
        flags["unsafe_model"] = ""
    columns = [flags.get("columns", ""), *settings.judged_columns]
    if any(columns):
        flags["columns"] = ",".join(dict.fromkeys(filter(None, columns)))
    return flags


def _rule_flags(given_flags: GivenFlags) -> set[str]:
    of_users = {rule.name for rule in given_flags.of_users.limits}
    return {of.name for of in declared_fields(RuleSettings)} | of_users


def _variants(given_flags: GivenFlags, settings: Settings) -> list[Variant]:
    limit = settings.max_unsafe_score
    names = _rule_flags(given_flags)
    names |= {"rules", "duplicates", "batch_rows"}
    names -= {MIN_EVALUATION_DISTANCE.name, VERIFIED}
    chosen = {**RECIPES[settings.recipe], **given_flags.ours}
    flags = {name: value for name, value in chosen.items() if name in names}
    # Each rule that is on, or part of one; its flag; and the flag's value without it.
    opened = {n: v for n, v in settings.catalogue.opened.items() if n in names}
    given = vars(settings) | settings.numbers
    without = [(n, n, value) for n, value in opened.items() if given[n] != value]
    without += [(n, n, off) for n, off in _OFF.items() if flags.get(n, off) != off]
    for name in (n for n, of in DECLARED.items() if of.metadata.get("several") and n in flags):
        parts = str(flags[name]).split(",")
        for part in parts:
            remaining = ",".join(other for other in parts if other != part)
            without.append((f"{name}={part}", name, remaining))
    all_rules = flags | _BARE, limit
    variants = [
        Variant("raw", "every pair of the pool"),
        Variant(RANDOM, "a random part of the pool, as large as what all rules keep", *all_rules),
        Variant(ALL, "all rules", *all_rules),
    ]
    for rule, name, value in without:
        kept = {flag: text for flag, text in flags.items() if flag not in _WITH.get(name, ())}
        kept |= {name: value, **_BARE}
        title = "without-" + "=".join(rule.split("=")[:2])
        unsafe = 1.0 if name == MAX_UNSAFE_SCORE.name else limit
        variants.append(Variant(title, f"all rules but --{rule}", kept, unsafe))
    return [*variants, *BASELINES]
