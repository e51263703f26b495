"""What a user brings to the rules: files of her own, and names of columns of the input."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from alignset.pipeline.errors import UsageError
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS
from alignset.transforms.rules.catalogue import (
    KEEP_MOST_SIMILAR,
    PRODUCT,
    TAKEDOWN_STEPS,
    Catalogue,
    catalogue_of,
    make_catalogue,
)
from alignset.transforms.rules.columns import MIN, REQUIRED, VERIFIED
from alignset.transforms.rules.custom import (
    RuleFile,
    RuleFileError,
    check_names,
    limits_in,
    read_rule_files,
)
from alignset.transforms.rules.given import RULE_FAILED
from alignset.transforms.rules.personal_data import MAX_PERSONAL_DATA
from alignset.transforms.rules.rule import Limit, RuleError
from alignset.transforms.rules.rule_settings import hash_column
from alignset.transforms.rules.thresholds import MAX_PAIRS_PER_CONCEPT

SCORE_MODEL = "--score_model="  # how the name begins of the file that this flag stands for


class RulesOfUsers(NamedTuple):
    """The rules of users: their files, and the catalogue with them."""

    files: tuple[RuleFile, ...] = ()
    catalogue: Catalogue = PRODUCT

    @property
    def limits(self) -> tuple[Limit, ...]:
        return self.catalogue.custom


NO_RULES = RulesOfUsers()


def rules_of_users(paths: str, score_model: str, flags: Iterable[str]) -> RulesOfUsers:
    """The rules of users in files, and on similarities by a model.

    Args:
      flags: the names of all flags without these.

    Raises:
      UsageError: a file cannot be imported, a name in it is taken, or there is no such model.
    """
    if not paths and not score_model:
        return NO_RULES
    try:
        files = read_rule_files(paths) if paths else ()
        files += (similarity_file(score_model),) if score_model else ()
        check_names(limits_in(files), _names_of_product(flags))
        return RulesOfUsers(files, catalogue_of(files, {}))
    except RuleFileError as error:
        raise UsageError(f"--rules: {error}") from error


def model_name(model: str) -> str:
    """A model as documents name it: without the machine's folders, which decide nothing."""
    return os.path.basename(os.path.abspath(model)) if os.path.exists(model) else model


def similarity_file(model: str) -> RuleFile:
    """The file of rules that `--score_model` stands for; opens the model, which takes seconds.

    Raises:
      UsageError: there is no such model.
    """
    from alignset.train.score_pairs import rule_source

    path = os.path.abspath(model) if os.path.exists(model) else model
    try:
        source = rule_source(path)
        name = f"{SCORE_MODEL}{model_name(model)}"
        return RuleFile(name, source, identity=source.replace(repr(path).encode(), b""))
    except RuleError as error:
        raise UsageError(f"--score_model: {error}") from error


# What rules read beside columns, and columns of shards under way: each name stands once.
INTERNAL_ROWS = frozenset(
    (
        *("text", "pixels", "word_count", "text_hash", "url_hash", "foreign", "corpus"),
        *("has_ngram_outside", "is_beyond_concepts", "own_language_score", "shorter", "longer"),
        *(
            "image",
            "bytes",
            "format",
            "known",
            "encoded",
            "boxes",
            "pages",
            "opt_out_headers",
            "file",
            "thumbnails",
            "nearest",
            "response",
            "digest",
            "input_hash",
            "is_stored",
        ),
        "failed_rule",
    )
)


def _names_of_product(flags: Iterable[str]) -> dict[str, set[str]]:
    """The names that no rule of a user can have."""
    from apache_beam.options.pipeline_options import PipelineOptions

    # With all that flags add; only the reasons of columns are not known yet.
    flags_of_parts = {MAX_PAIRS_PER_CONCEPT.name: 1, KEEP_MOST_SIMILAR: 0.5}
    flags_of_parts[MAX_PERSONAL_DATA.name] = 0
    product = make_catalogue((), {**flags_of_parts, VERIFIED: "md5=", f"{MIN}=": 0.0})
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


INPUT = "input_"  # before the name of an input column where its own is one of ours


@cache
def names_of_ours() -> frozenset[str]:
    """The columns that files of ours have in every run, of languages, and of how images look."""
    from alignset.transforms.columns.records import (
        LOOK_SCHEMA,
        REJECTED,  # with Arrow
    )
    from alignset.transforms.shards.shard_files import SHARD_SCHEMA

    return frozenset({*REJECTED.names, *SHARD_SCHEMA.names, *LOOK_SCHEMA.names, *LANGUAGE_COLUMNS})


def carried(flag: str, text: str) -> str:
    """A flag of columns with the names by which they are carried.

    >>> carried("min_column", "score=0.5,width=3")
    'score=0.5,input_width=3'

    Raises:
      ValueError: it is --verify_hash, and names no hash function or no column.
    """
    if flag == VERIFIED:
        return "=".join((hash_column(text)[0], _carried_name(hash_column(text)[1])))
    items = [
        item.partition("=") if flag != REQUIRED else (item, "", "") for item in text.split(",")
    ]
    return ",".join(f"{_carried_name(name)}{equals}{value}" for name, equals, value in items)


def _carried_name(column: str) -> str:
    return INPUT + column if column in names_of_ours() else column
