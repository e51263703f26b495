"""A query in a URL's parameters, which are what a permalink is made of."""

import base64
from typing import NamedTuple

import numpy as np
from starlette.datastructures import QueryParams

from alignset.train.errors import SettingsError
from alignset.train.search.find_results import MAX_RESULTS
from alignset.train.search.query import Filters, SearchQuery, Term

KINDS = ("text", "key", "picture")
_PARAMETERS = {*KINDS, *(f"{kind}_weight" for kind in KINDS)} | {
    *("host", "caption", "min_side", "max_side", "fold", "offset", "limit")
}
_DIGEST = 8  # hex digits of the model's digest in the name of an image
_MAX_VALUE = 4096  # characters of a key, or of the name of an image
_MAX_SIDE = (1 << 31) - 1


class PageRequest(NamedTuple):
    """A query, and which of its results are wanted."""

    query: SearchQuery
    offset: int
    limit: int


def picture_name(vector: np.ndarray, digest: str) -> str:
    """An image's embedding as text, a byte a dimension, for the model with this digest.

    A server keeps nobody's image, and a link to what it found outlives the server.
    """
    steps = np.rint(vector * (127 / np.abs(vector).max())).astype(np.int8)
    return f"{digest[:_DIGEST]}.{base64.urlsafe_b64encode(steps.tobytes()).decode().rstrip('=')}"


def picture_vector(name: str, digest: str, dimensions: int) -> np.ndarray:
    """float32[d], unit length. Raises SettingsError where it is not a name of an image."""
    model, _, text = name.partition(".")
    try:
        digits = text + "=" * (-len(text) % 4)
        steps = np.frombuffer(base64.b64decode(digits, altchars=b"-_", validate=True), np.int8)
    except ValueError:
        steps = np.empty(0, np.int8)
    vector = steps.astype(np.float32)
    if len(vector) == dimensions and len(model) == _DIGEST and model != digest[:_DIGEST]:
        raise SettingsError("the image of this link was for another model: pass the image again")
    if len(vector) != dimensions or model != digest[:_DIGEST] or not vector.any():
        raise SettingsError("an image of this link is none, or is cut: pass the image again")
    return vector / np.linalg.norm(vector)


def parse_query(parameters: QueryParams, digest: str, dimensions: int) -> PageRequest:
    """The query of a URL.

    Raises:
      SettingsError: a parameter is none, or has a value that it cannot have.
    """
    if unknown := sorted(parameters.keys() - _PARAMETERS):
        raise SettingsError(f"there is no parameter {unknown[0][:50]!r}; see docs/search.md")
    terms: list[Term] = []
    for kind in KINDS:
        values = parameters.getlist(kind)
        weights = _weights(kind, parameters.getlist(f"{kind}_weight"), len(values))
        for value, weight in zip(values, weights, strict=True):
            if len(value) > _MAX_VALUE:
                raise SettingsError(f"a {kind} must have at most {_MAX_VALUE} characters")
            vector = picture_vector(value, digest, dimensions) if kind == "picture" else None
            terms.append(Term(kind, value, weight, vector))
    filters = Filters(
        parameters.get("host", "").strip(),
        parameters.get("caption", "").strip(),
        _number(parameters, "min_side", 0, range(_MAX_SIDE + 1)),
        _number(parameters, "max_side", 0, range(_MAX_SIDE + 1)),
    )
    fold = parameters.get("fold", "true")
    if fold not in ("true", "false"):
        raise SettingsError(f"fold must be true or false; got {fold[:20]!r}")
    return PageRequest(
        SearchQuery(tuple(terms), filters, fold == "true"),
        _number(parameters, "offset", 0, range(MAX_RESULTS + 1)),
        _number(parameters, "limit", 24, range(1, 101)),
    )


def _weights(kind: str, texts: list[str], count: int) -> list[float]:
    try:
        weights = [float(text) for text in texts] or [1.0] * count
    except ValueError:
        weights = []
    if len(weights) != count:
        raise SettingsError(f"pass a {kind}_weight for each {kind}, or none; each is a number")
    return weights


def _number(parameters: QueryParams, name: str, default: int, choices: range) -> int:
    text = parameters.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) in choices):
        raise SettingsError(
            f"{name} must be a whole number from {choices.start} to {choices.stop - 1}"
        )
    return int(text)
