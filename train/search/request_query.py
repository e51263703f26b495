"""A query out of a URL's parameters, which are what a permalink is made of."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from starlette.datastructures import QueryParams

from alignset.train.errors import SettingsError
from alignset.train.search.filters import Filters
from alignset.train.search.find_results import MOST_RESULTS, Query
from alignset.train.search.query_terms import Term, check_terms

KINDS = ("text", "key", "picture")
_FILTERS = ("host", "caption", "min_side", "max_side")
_OTHERS = ("fold", "offset", "limit")
MOST_AT_ONCE = 100
_DIGEST = 8  # hex digits of the model's digest in the name of a picture
_LONGEST_KEY = 4096


class Asked(NamedTuple):
    """A query, and which of its results are wanted."""

    query: Query
    offset: int
    limit: int


def picture_name(vector: np.ndarray, digest: str) -> str:
    """A picture's embedding as text, a byte a dimension, for the model with this digest.

    So nobody's picture is kept by a server, and a link to what it found outlives the server.
    """
    steps = np.rint(vector * (127 / np.abs(vector).max())).astype(np.int8)
    return f"{digest[:_DIGEST]}.{base64.urlsafe_b64encode(steps.tobytes()).decode().rstrip('=')}"


def picture_vector(name: str, digest: str, dimensions: int) -> np.ndarray:
    """float32[d], unit length. Raises SettingsError where it is no name of a picture."""
    wrong = SettingsError("a picture of this link is none, or is cut: give the picture anew")
    model, _, text = name.partition(".")
    if len(text) > 2 * dimensions or not name.isascii():
        raise wrong
    try:
        steps = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise wrong from error
    if len(steps) != dimensions or len(model) != _DIGEST:
        raise wrong
    if model != digest[:_DIGEST]:
        raise SettingsError("the picture of this link was for another model: give the picture anew")
    vector = np.frombuffer(steps, np.int8).astype(np.float32)
    length = np.linalg.norm(vector)
    if not length:
        raise wrong
    return vector / length


def parse_query(parameters: QueryParams, digest: str, dimensions: int) -> Asked:
    """What a URL asks for.

    Raises:
      SettingsError: a parameter is none, or has a value that it cannot have.
    """
    allowed = {*KINDS, *(f"{kind}_weight" for kind in KINDS), *_FILTERS, *_OTHERS}
    if unknown := sorted(parameters.keys() - allowed):
        raise SettingsError(f"there is no parameter {unknown[0][:50]!r}; see /api")
    terms: list[Term] = []
    for kind in KINDS:
        values = parameters.getlist(kind)
        weights = _weights(kind, parameters.getlist(f"{kind}_weight"), len(values))
        for value, weight in zip(values, weights, strict=True):
            if len(value) > _LONGEST_KEY:
                raise SettingsError(f"a {kind} must have at most {_LONGEST_KEY} characters")
            known = picture_vector(value, digest, dimensions) if kind == "picture" else None
            terms.append(Term(kind, value, weight, known))
    check_terms(terms)
    filters = Filters(
        parameters.get("host", "").strip(),
        parameters.get("caption", "").strip(),
        _number(parameters, "min_side", 0, (1 << 31) - 1),
        _number(parameters, "max_side", 0, (1 << 31) - 1),
    )
    fold = parameters.get("fold", "true")
    if fold not in ("true", "false"):
        raise SettingsError(f"fold must be true or false; got {fold[:20]!r}")
    return Asked(
        Query(tuple(terms), filters, fold == "true"),
        _number(parameters, "offset", 0, MOST_RESULTS),
        _number(parameters, "limit", 24, MOST_AT_ONCE, least=1),
    )


def identity(query: Query) -> tuple[object, ...]:
    """Equal for equal queries."""
    terms = tuple((term.kind, term.value, term.weight) for term in query.terms)
    return terms, query.filters, query.fold


def _weights(kind: str, given: Sequence[str], count: int) -> list[float]:
    if not given:
        return [1.0] * count
    try:
        weights = [float(text) for text in given]
    except ValueError:
        weights = []
    if len(weights) != count:
        raise SettingsError(f"give a {kind}_weight for each {kind}, or none; each is a number")
    return weights


def _number(
    parameters: Mapping[str, str], name: str, default: int, most: int, least: int = 0
) -> int:
    text = parameters.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
        raise SettingsError(f"{name} must be a whole number from {least} to {most}")
    return int(text)
