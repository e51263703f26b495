"""What the server's paths answer, field by field: the schemas of its OpenAPI document."""

from typing import Any

from alignset.train.search.filters import UNSAFE_SCORE
from alignset.train.search.find_results import MOST_RESULTS

Schema = dict[str, Any]


def _field(kind: str | list[str], meaning: str) -> Schema:
    return {"type": kind, "description": meaning}


def _object(**fields: Schema) -> Schema:
    return {"type": "object", "required": [*fields], "properties": fields}


def _list(of: Schema, meaning: str) -> Schema:
    return {"type": "array", "description": meaning, "items": of}


def _result(score: Schema) -> Schema:
    return _object(
        key=_field("string", "tells the picture from all others of the index"),
        score=score,
        caption=_field("string", "its text; empty where it has none"),
        url=_field("string", "where it was published; empty where that is not known"),
        host=_field("string", "of the URL, in lower case and without a port; or empty"),
        width=_field("integer", "px, of the picture itself"),
        height=_field("integer", "px, of the picture itself"),
        unsafe=_field("boolean", f"whether its unsafe score is above {UNSAFE_SCORE:g}"),
        folded=_field("integer", "how many pictures look like it and are no results of their own"),
        thumbnail=_field("string", "the path of the picture, drawn small, on this server"),
    )


RESULTS = _object(
    results=_list(
        _result(_field("number", "the cosine between query and picture, -1 to 1")),
        "the nearest first",
    ),
    next_offset=_field(
        ["integer", "null"],
        f"offset of the results behind these; null where there are none, or {MOST_RESULTS:,} came",
    ),
    took_ms=_field("number", "how long the search took, with the embedding of its texts"),
)
PICTURE = _object(
    picture=_field("string", "the name, which picture= of /api/search takes; for this model alone")
)
INDEX = _object(
    pictures=_field("integer", "how many the index has"),
    model=_field("string", "the last part of the name of the model that embeds them"),
    search=_field("string", "exact, or cells where only the nearest of many are looked into"),
    recall_at_10=_field(
        "number", "share of the ten nearest that a search finds, as was measured when it was made"
    ),
    ready=_field("boolean", "whether the model is read; until then a query waits for it"),
    sample=_list(_result(_field("null", "there is no query")), "pictures from all over the index"),
)
ERROR = _object(error=_field("string", "what is wrong, and what to do"))
STATUSES = {
    "400": "the query or the picture is wrong",
    "404": "the index has no such picture",
    "408": "the picture did not come in time",
    "413": "the picture is too large",
    "415": "it is no picture of a format that is read",
    "429": "too many requests; Retry-After has the seconds to wait",
    "503": "too much waits, or the index is being changed; Retry-After has the seconds to wait",
}


def rows_of(schema: Schema, path: str = "") -> list[tuple[str, str, str]]:
    """(path, type, meaning) of each field, as ("results[].key", "string", …)."""
    rows = []
    for name, of in schema["properties"].items():
        kinds = of["type"] if isinstance(of["type"], list) else [of["type"]]
        rows.append((f"{path}{name}", " or ".join(kinds), of["description"]))
        if "items" in of:
            rows += rows_of(of["items"], f"{path}{name}[].")
    return rows
