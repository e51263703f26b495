"""The server's paths as an OpenAPI document, and the same as a page."""

import html
from collections.abc import Iterable, Iterator
from typing import Any

from alignset.train.search.api_answers import ERROR, INDEX, PICTURE, RESULTS, STATUSES, rows_of
from alignset.train.search.decode_pool import MAX_BYTES
from alignset.train.search.find_results import MOST_RESULTS
from alignset.train.search.query_terms import LONGEST_TEXT, MAX_WEIGHT, MOST_TERMS
from alignset.train.search.request_query import MOST_AT_ONCE

_MEANINGS = {
    "text": f"a text of up to {LONGEST_TEXT} characters; may be given again",
    "key": "a picture of the index, by the key that a result has; may be given again",
    "picture": "a picture, by the name that POST /api/pictures gives it; may be given again",
    "text_weight": f"of each text in its order, -{MAX_WEIGHT:g} to {MAX_WEIGHT:g} (1)",
    "key_weight": "of each key in its order",
    "picture_weight": "of each picture in its order",
    "host": "only pictures of this host and those below it",
    "caption": "only pictures whose caption contains this, in whatever case",
    "min_side": "px; the shorter side, at least",
    "max_side": "px; the shorter side, at most",
    "fold": "whether pictures that look the same are one result (true)",
    "offset": f"how many results are passed over, up to {MOST_RESULTS} (0)",
    "limit": f"how many results are wanted, 1 to {MOST_AT_ONCE} (24)",
}
_NUMBERS = {"text_weight", "key_weight", "picture_weight"}
_COUNTS = {"min_side", "max_side", "offset", "limit"}


def openapi_document() -> dict[str, Any]:
    """By OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "alignset search", "version": "1"},
        "paths": {
            "/api/search": {"get": _search()},
            "/api/pictures": {"post": _name_picture()},
            "/api/index": {
                "get": {
                    "operationId": "describeIndex",
                    "summary": "How many pictures there are, and how they are searched.",
                    "responses": {"200": _json("the index", INDEX)} | _errors("429", "503"),
                }
            },
            "/thumbnails/{key}": {"get": _thumbnail()},
        },
    }


def _search() -> dict[str, Any]:
    return {
        "operationId": "search",
        "summary": f"The pictures nearest to the sum of up to {MOST_TERMS} terms.",
        "parameters": [_parameter(name, text) for name, text in _MEANINGS.items()],
        "responses": {"200": _json("results, the nearest first", RESULTS)}
        | _errors("400", "429", "503"),
    }


def _name_picture() -> dict[str, Any]:
    upload = f"any bytes of a picture, at most {MAX_BYTES >> 20} MiB"
    return {
        "operationId": "namePicture",
        "summary": "A name for a picture, which is its embedding; the picture is not kept.",
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"description": upload}}},
        },
        "responses": {"200": _json("its name", PICTURE)}
        | _errors("400", "408", "413", "415", "429", "503"),
    }


def _thumbnail() -> dict[str, Any]:
    key = {"name": "key", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "operationId": "thumbnail",
        "summary": "A picture of the index, drawn small.",
        "parameters": [key],
        "responses": {"200": {"description": "the thumbnail", "content": {"image/webp": {}}}}
        | _errors("404", "503"),
    }


def api_page() -> str:
    """The document as HTML, which needs no script."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>API of alignset search</title>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        "<link rel=icon href=/icon.svg><link rel=stylesheet href=/style.css>",
        "<main class=api><h1>API of alignset search</h1>",
        "<p>The page itself uses no other paths. <a href=/api/openapi.json>openapi.json</a> has "
        "the same for programs, and <a href=/>the page</a> searches.</p>",
    ]
    for path, methods in openapi_document()["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>")
            parts.append(f"<p>{html.escape(operation['summary'])}</p>")
            parts += _asked(operation)
            parts += _answered(operation["responses"])
    parts.append(
        "<h2>Examples</h2><pre tabindex=0>curl 'http://127.0.0.1:8080/api/search?text=a+dog&amp;"
        "text=snow&amp;text_weight=1&amp;text_weight=0.5'\n"
        "curl --data-binary @cat.jpg http://127.0.0.1:8080/api/pictures</pre></main>"
    )
    return "".join(parts)


def _asked(operation: dict[str, Any]) -> Iterator[str]:
    parameters = operation.get("parameters", [])
    if parameters:
        yield _table([(of["name"], of.get("description", "")) for of in parameters])
    for kind, of in operation.get("requestBody", {}).get("content", {}).items():
        told = html.escape(of["schema"]["description"])
        yield f"<p>Body (<code>{kind}</code>): {told}.</p>"


def _answered(responses: dict[str, Any]) -> Iterator[str]:
    ((kind, content),) = responses["200"]["content"].items()
    said = html.escape(responses["200"]["description"])
    yield f"<p>Answer (<code>{kind}</code>): {said}.</p>"
    if content:
        yield _table(rows_of(content["schema"]))
    ((field, _, meaning),) = rows_of(ERROR)
    yield f"<p>Refusals have a field <code>{field}</code>, {html.escape(meaning)}. By status:</p>"
    yield _table([(of, responses[of]["description"]) for of in responses if of != "200"])


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    """Rows, each of which begins with a name."""
    lines = []
    for name, *cells in rows:
        told = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        lines.append(f"<tr><th scope=row><code>{html.escape(name)}</code></th>{told}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _parameter(name: str, meaning: str) -> dict[str, Any]:
    kind = "number" if name in _NUMBERS else "integer" if name in _COUNTS else "string"
    schema: dict[str, Any] = {"type": "boolean" if name == "fold" else kind}
    if name in ("text", "key", "picture") or name in _NUMBERS:
        schema = {"type": "array", "items": schema, "maxItems": MOST_TERMS}
    return {"name": name, "in": "query", "description": meaning, "schema": schema}


def _json(meaning: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": meaning, "content": {"application/json": {"schema": schema}}}


def _errors(*statuses: str) -> dict[str, Any]:
    return {status: _json(STATUSES[status], ERROR) for status in statuses}
