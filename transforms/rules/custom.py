"""Rules that a user wrote in files of her own, with the same classes: docs/rules.md.

Their measures are computed here and stand in a column of their own from then on, so that all that
reads rows finds them as it finds the product's.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import math
import platform
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache, wraps
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignset.transforms.rules.columns import MOST, edges_around
from alignset.transforms.rules.rule import KEEPS, Limit, Measure, Rows, RuleError, Stage

if TYPE_CHECKING:
    from alignset.transforms.columns.hashing import Bools
    from alignset.transforms.rules.rule import Floats

LOG = logging.getLogger("alignset")
STAGES = (Stage.TEXT, Stage.PIXELS, Stage.PAIR)
# What rules of a pair read beside the columns that go with it, and beside what was measured before.
OF_TEXTS = ("text", "url", "language", "word_count")
OF_IMAGES = ("original_width", "original_height", "unsafe_score", "evaluation_distance")
# The names in the file that runs right now.
IMPORTING: ContextVar[dict[str, Any] | None] = ContextVar("IMPORTING", default=None)
_TOLD: set[tuple[str, str]] = set()  # failures of this process, by flag and place
_WORD = re.compile(r"(.+\.py):(\w+)")
_MOST_EDGES = 200
_DESCRIBED = ("name", "default", "help", "words", "keeps", "reason", "step", "means", "allows")
_OF_MEASURE = ("axis", "label", "short", "column", "whole", "least", "unit", "logarithmic")


class RuleFileError(ValueError):
    """A file of rules cannot be used; one line says why."""


@dataclass(frozen=True)
class RuleFile:
    """A file of rules as workers have it: its bytes, not its path.

    Attributes:
      flags: of the rules that are wanted; all where there are none.
      identity: what the digest is of, where the source names a folder of this machine.
    """

    name: str
    source: bytes
    flags: frozenset[str] = frozenset()
    identity: bytes = b""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.identity or self.source).hexdigest()


def read_rule_files(words: str) -> tuple[RuleFile, ...]:
    """The files that `--rules` names: FILE.py, or FILE.py:FLAG for one of its rules, with commas.

    Raises:
      RuleFileError: a file cannot be read.
    """
    flags: dict[str, set[str]] = {}
    for word in words.split(","):
        one = _WORD.fullmatch(word)
        path, flag = one.groups() if one else (word, "")
        flags.setdefault(path, set()).add(flag)
    files = []
    for path, names in flags.items():
        file = Path(path)
        if file.exists() and not (file.is_file() or file.is_dir()):  # a pipe may never end
            raise RuleFileError(f"{path} is neither a file nor a folder: pass a file of Python")
        try:
            source = file.read_bytes()
        except OSError as error:
            raise RuleFileError(f"{path} cannot be read: {error.strerror}") from error
        files.append(RuleFile(file.name, source, frozenset(() if "" in names else names)))
    return tuple(files)


def limits_in(files: Sequence[RuleFile]) -> tuple[Limit, ...]:
    """The rules in some files, in their order.

    Raises:
      RuleFileError: a file cannot be imported, or a rule in it cannot be used, or is not there.
    """
    all_limits = []
    for file in files:
        limits = _load_rules(file.name, file.source)
        names = {limit.name for limit in limits}
        for flag in sorted(file.flags - names):
            raise RuleFileError(f"{file.name} has no rule {flag!r}; it has {sorted(names)}")
        all_limits += [limit for limit in limits if not file.flags or limit.name in file.flags]
    return tuple(all_limits)


@lru_cache(maxsize=64)
def _load_rules(name: str, source: bytes) -> tuple[Limit, ...]:
    module = types.ModuleType(f"alignset_rules_{hashlib.sha256(source).hexdigest()[:16]}")
    sys.modules[module.__name__] = module  # where a rule looks for its own functions
    token = IMPORTING.set(vars(module))
    try:
        exec(compile(source, name, "exec"), vars(module))
    except (Exception, SystemExit) as error:  # a script without a guard for __main__ exits
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == name]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        where = f", line {line}" if line else ""
        message = str(error).splitlines()[0] if str(error) else ""
        raise RuleFileError(
            f"{name} cannot be imported{where}: {type(error).__name__}: {message}"
        ) from error
    finally:
        IMPORTING.reset(token)
    rules = {id(value): value for value in vars(module).values() if isinstance(value, Limit)}
    if not rules:
        raise RuleFileError(f"{name} has no rule: a rule is a Limit that stands in the file")
    for limit in rules.values():
        _check(name, limit)
    measures: dict[int, Measure] = {}
    return tuple(computing(limit, measures) for limit in rules.values())


def computing(limit: Limit, measures: dict[int, Measure] | None = None) -> Limit:
    """The rule, whose measure is computed once and read from a column from then on.

    Args:
      measures: those that are prepared already, by the ids of the rules' own.
    """
    measures, measure = {} if measures is None else measures, limit.measure
    column = measure.column or measure.axis
    shared_measure = measures.setdefault(
        id(measure),
        replace(measure, of=lambda rows: rows[column], column=column, compute=measure.of),
    )
    return replace(limit, measure=shared_measure)


# What must hold for a rule; an error counts as a no, since a user may write anything there.
_CHECKS: dict[str, Callable[[Limit], bool]] = {
    "its names must be words of letters, digits and _": lambda limit: all(
        word.isidentifier() and word.isascii()
        for word in (
            *(limit.name, limit.reason, limit.step, limit.measure.axis),
            limit.measure.column or limit.measure.axis,
        )
    ),
    "its stage must be TEXT, PIXELS or PAIR": lambda limit: limit.stage in STAGES,
    "keeps must be one of >, >=, <, <=": lambda limit: limit.keeps in KEEPS,
    "its default must be a number": lambda limit: math.isfinite(limit.default),
    "its opened must be a number, or None": lambda limit: (
        limit.opened is None or math.isfinite(limit.opened)
    ),
    "its measure's least must be a number": lambda limit: math.isfinite(limit.measure.least),
    "its range must be two numbers, the lower first": lambda limit: (
        len(limit.range) == 2 and limit.range[0] <= limit.range[1]
    ),
    "its measure's `of` must be a function": lambda limit: callable(limit.measure.of),
    f"its measure must have 1 to {_MOST_EDGES} finite edges, ascending": lambda limit: (
        1 <= len(limit.measure.edges) <= _MOST_EDGES
        and all(map(math.isfinite, limit.measure.edges))
        and all(a < b for a, b in pairwise(limit.measure.edges))
    ),
    "a measure with `over` is not for files of rules": lambda limit: limit.measure.over is None,
}


def _check(file: str, limit: Limit) -> None:
    for demand, holds in _CHECKS.items():
        try:
            is_met = holds(limit)
        except Exception:
            is_met = False
        if not is_met:
            raise RuleFileError(f"{file}: {limit.name}: {demand}")
    try:
        limit.check(limit.default)
    except ValueError as error:
        raise RuleFileError(f"{file}: its default: {error}") from error


def check_names(limits: Sequence[Limit], names_in_use: Mapping[str, set[str]]) -> None:
    """Refuses what is there already.

    Args:
      names_in_use: the names of flags, reasons, steps, axes and columns.
    """
    all_names = {kind: set(names) for kind, names in names_in_use.items()}
    axes: dict[str, Measure] = {}
    for limit in limits:
        own = {"flag": limit.name, "reason": limit.reason}
        if limit.measure.axis not in axes or axes[limit.measure.axis] is not limit.measure:
            own |= {"axis": limit.measure.axis, "column": limit.measure.column}
        axes[limit.measure.axis] = limit.measure
        if limit.step in names_in_use["step"]:
            own["step"] = limit.step
        for kind, name in own.items():
            if name in all_names[kind]:
                raise RuleFileError(
                    f"the rule {limit.name}: the {kind} {name!r} is taken; choose another"
                )
            all_names[kind].add(name)


def rule(
    name: str, of: Callable[..., Any], *, at_least: float = -MOST, at_most: float = MOST
) -> Limit:
    """Makes a rule: `rule("digits", lambda text: sum(map(str.isdigit, text)), at_most=9)`.

    Args:
      name: of its column and its step; its flag is `max_NAME` or `min_NAME`.
      of: gives a number or None for a pair; its parameters are named as columns of rows, but for
        those with a default.
      at_least, at_most: the threshold, one of both.

    Raises:
      ValueError: there is no threshold, or there are two; or `of` reads no column.
    """
    if (at_least == -MOST) == (at_most == MOST):
        raise ValueError(f"rule({name!r}): pass at_least or at_most, which is its threshold")
    is_least = at_most == MOST
    low, end, bound = ("low", "least", at_least) if is_least else ("high", "most", at_most)
    parameters, edges = inspect.signature(of).parameters, sorted({*edges_around(bound)})
    columns = [column for column, own in parameters.items() if own.default is own.empty]
    if not columns:
        raise ValueError(f"rule({name!r}): its function needs a parameter, such as text")
    of_image = not {"pixels", *OF_IMAGES}.isdisjoint(columns)

    @wraps(of)
    def of_rows(rows: Rows) -> Any:
        return [of(*values) for values in zip(*(rows[column] for column in columns), strict=True)]

    limit = Limit(
        name=f"{'min' if is_least else 'max'}_{name}",
        default=float(bound),
        help=f"{name} of a pair, at {end}",
        words=f"{name}, at {end}",
        keeps=">=" if is_least else "<=",
        reason=f"{low}_{name}",
        step=name,
        means=f"its `{name}` is too {low}",
        stage=Stage.PIXELS if columns == ["pixels"] else Stage.PAIR if of_image else Stage.TEXT,
        opened=-MOST if is_least else MOST,
        range=(-MOST, MOST),
        allows=f"a number of at most {MOST:g}",
        measure=Measure(axis=name, label=name, short=name, of=of_rows, edges=edges, least=edges[0]),
    )
    # In a file of rules it may stand without a name, or in a loop.
    if (names := IMPORTING.get()) is not None and names is sys._getframe(1).f_globals:
        names[f"_rule_{len(names)}"] = limit
    return limit


class UserRows(Rows):
    """Rows as rules of users read them: lists, or float64[n], by column."""

    def __missing__(self, name: str) -> Any:
        of_pairs = "text" not in self or name in ("pixels", *OF_IMAGES)
        way = "stage=Stage.PAIR has more" if of_pairs else f"--columns={name} carries the input's"
        raise RuleError(f"rows have no {name!r}, but {', '.join(self)}; {way}")


def check_columns(limits: Sequence[Limit], carried: Iterable[str]) -> None:
    """Calls each rule with no rows, so that a run does not end at a column or file that it lacks.

    Args:
      carried: the names of the columns that go with the pairs.

    Raises:
      RuleError: a rule reads a column that its rows will not have, or opens what is not there.
    """
    names = [*OF_TEXTS, *carried]
    of_stage = {Stage.TEXT: names, Stage.PIXELS: ["pixels"]}
    for limit in sorted(limits, key=lambda limit: limit.stage):  # as they are computed
        all_names = of_stage.get(limit.stage, ["pixels", *OF_IMAGES, *names])
        try:
            assert limit.measure.compute is not None
            limit.measure.compute(UserRows({name: [] for name in all_names}))
        except (ConnectionError, TimeoutError):  # perhaps workers alone reach it
            pass
        except (RuleError, OSError) as error:
            raise RuleError(f"{limit.name}: {error or type(error).__name__}") from error
        except (Exception, SystemExit):  # of a rule that expects rows
            pass
        names.append(limit.measure.column)


def computed(limit: Limit, rows: Rows, size: int) -> tuple[Floats, Bools]:
    """The measure of n rows, NaN where there is none, and where it failed: float64[n], bool[n].

    A rule that raises on one row is asked row by row, and costs that row alone.

    Raises:
      RuleError: it gives another number of values, a package is missing, or there is too little
        memory for any of several rows.
    """
    import numpy as np

    compute, is_failed = limit.measure.compute, np.zeros(size, np.bool_)
    assert compute is not None
    try:
        return _asked(limit, rows, size), is_failed
    except (Exception, SystemExit) as error:
        _refuse_faults_of_machines(limit, error)
        last_error: BaseException = error
        if (told := (limit.name, _place_of(limit, error))) not in _TOLD:
            _TOLD.add(told)
            message = "the rule %s failed%s: %s: %s; such pairs are dropped as rule_failed"
            LOG.warning(message, *told, type(error).__name__, error)  # its repr names no file
    values = np.full(size, math.nan)
    for row in range(size):
        one = type(rows)({name: column[row : row + 1] for name, column in rows.items()})
        try:
            values[row] = _asked(limit, one, 1)[0]
        except (Exception, SystemExit) as error:  # whatever a user's rule raises
            is_failed[row], last_error = True, error
    if size > 1 and is_failed.all():
        # On a GPU torch tells it by a RuntimeError of its own.
        no_memory = isinstance(last_error, MemoryError)
        no_memory |= type(last_error).__name__ == "OutOfMemoryError"
        _refuse_faults_of_machines(limit, last_error, also=no_memory)
    return values, is_failed


def _refuse_faults_of_machines(limit: Limit, error: BaseException, *, also: bool = False) -> None:
    """Raises RuleError for an error that is not of some rows: one worker that lacks a package would
    else drop its part of a large dataset.

    Args:
      also: whether it is such an error, of whatever type.
    """
    if isinstance(error, RuleError):
        raise error
    if also or isinstance(error, ImportError):
        raise RuleError(
            f"the rule {limit.name} failed{_place_of(limit, error)} by what this machine lacks, on "
            f"{platform.node()}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ) from error


def _place_of(limit: Limit, error: BaseException) -> str:
    """As " at my_rules.py, line 7"; empty where it is not known."""
    function = inspect.unwrap(limit.measure.compute or len)
    file = getattr(getattr(function, "__code__", None), "co_filename", "")
    frames = traceback.extract_tb(error.__traceback__)
    # What it calls may be anybody's: the last line of its own file is the one that it can change.
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return f" at {file}, line {lines[-1]}" if lines else ""


def _asked(limit: Limit, rows: Rows, size: int) -> Floats:
    """The numbers that a rule gives for some rows: float64[n], NaN for None."""
    import numpy as np

    assert limit.measure.compute is not None
    answer = limit.measure.compute(rows)
    values = np.asarray([math.nan if v is None else v for v in answer], np.float64)
    if values.shape != (size,):
        raise RuleError(
            f"the rule {limit.name} gave numbers of the shape {values.shape} for {size} rows: its "
            "measure's `of` must give one for each row"
        )
    return values


def describe_limit(limit: Limit) -> dict[str, Any]:
    """A rule as the manifest has it: all but its function."""
    own = {name: getattr(limit, name) for name in _DESCRIBED}
    measure = {name: getattr(limit.measure, name) for name in _OF_MEASURE}
    edges = [float(edge) for edge in limit.measure.edges]
    low, high = (None if math.isinf(end) else end for end in limit.range)
    more = {"stage": limit.stage.name, "opened": limit.opened, "range": [low, high]}
    return own | more | {"measure": measure | {"edges": edges}}


def read_description(description: Mapping[str, Any]) -> Limit:
    """The rule that a manifest describes, for reports: its measure is read from its column.

    Raises:
      KeyError, TypeError, ValueError, AttributeError: it describes no rule.
    """
    low, high = description["range"]
    column = description["measure"]["column"]
    limit = Limit(
        **{name: description[name] for name in _DESCRIBED},
        stage=Stage[description["stage"]],
        opened=description["opened"],
        range=(-math.inf if low is None else low, math.inf if high is None else high),
        measure=Measure(**description["measure"], of=lambda rows: rows[column]),
    )
    _check("a manifest", limit)
    return limit
