"""The rules of users: files that a command names, with their flags behind the product's."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import make_dataclass

from alignset.pipeline.errors import UsageError
from alignset.pipeline.rules import Rules, flag_of, names_of_ours
from alignset.transforms.rules.catalogue import (
    KEEP_MOST_SIMILAR,
    LIKE,
    TAKEDOWN_STEPS,
    catalogue_of,
    with_flags,
)
from alignset.transforms.rules.columns import MIN, VERIFIED
from alignset.transforms.rules.concepts import MAX_PAIRS_PER_CONCEPT
from alignset.transforms.rules.custom import (
    RuleFile,
    RuleFileError,
    check_names,
    limits_in,
    read_rule_files,
)
from alignset.transforms.rules.given import RULE_FAILED

SCORE_MODEL = "--score_model="  # how the name begins of the file that this flag stands for


def rules_with(paths: str, score_model: str, flags: Iterable[str]) -> type[Rules]:
    """The rules of the product and of users: in files, and on similarities by a model.

    Args:
      flags: the names of all flags without these.

    Raises:
      UsageError: a file cannot be imported, a name in it is taken, or there is no such model.
    """
    if not paths and not score_model:
        return Rules
    try:
        files = read_rule_files(paths) if paths else ()
        files += (similarity_file(score_model),) if score_model else ()
        check_names(limits_in(files), _names_of_product(flags))
        catalogue = catalogue_of(files, {})
    except RuleFileError as error:
        raise UsageError(f"--rules: {error}") from error
    own = [flag_of(limit.name, limit.default, limit.help) for limit in catalogue.custom]
    space = {"files": files, "of_files": catalogue}
    rules = make_dataclass("Rules", own, bases=(Rules,), frozen=True, namespace=space)
    return rules


def model_name(model: str) -> str:
    """A model as documents name it: without the machine's folders, which decide nothing."""
    return os.path.basename(os.path.abspath(model)) if os.path.exists(model) else model


def similarity_file(model: str) -> RuleFile:
    """The file of rules that `--score_model` stands for; opens the model, which takes seconds.

    Raises:
      UsageError: there is no such model.
    """
    from alignset.train.errors import SettingsError
    from alignset.train.score_pairs import rule_source

    path = os.path.abspath(model) if os.path.exists(model) else model
    try:
        source = rule_source(path)
        name = f"{SCORE_MODEL}{model_name(model)}"
        return RuleFile(name, source, identity=source.replace(repr(path).encode(), b""))
    except SettingsError as error:
        raise UsageError(f"--score_model: {error}") from error


# What rules read beside columns: `Rows` has a name once.
INTERNAL_ROWS = frozenset(
    (
        *("text", "pixels", "word_count", "text_hash", "url_hash", "foreign", "corpus"),
        *("has_ngram_outside", "is_beyond_concepts", "own_language_score", "shorter", "longer"),
    )
)


def _names_of_product(flags: Iterable[str]) -> dict[str, set[str]]:
    """The names that no rule of a user can have."""
    from apache_beam.options.pipeline_options import PipelineOptions

    # With all that flags add; only the reasons of columns are not known yet.
    flags_of_parts = {LIKE: "en", MAX_PAIRS_PER_CONCEPT.name: 1, KEEP_MOST_SIMILAR: 0.5}
    product = with_flags((), {**flags_of_parts, VERIFIED: "md5=", f"{MIN}=": 0.0})
    reasons = {*product.reasons, RULE_FAILED}
    rule_flags = {rule.name for rule in product.rules}
    return {
        "flag": {*flags, "help", *PipelineOptions([]).get_all_options()},
        "reason": reasons,
        "step": {*product.text_steps, *product.image_steps, *TAKEDOWN_STEPS},
        "axis": {*product.measures, "bytes", "formats"},
        "column": {*names_of_ours(), *INTERNAL_ROWS, *reasons, *rule_flags}
        | {measure.column for measure in product.measures.values()},
    }
