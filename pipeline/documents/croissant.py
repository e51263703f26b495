"""A set as Croissant describes it, for machines: its files and the fields of its records.

Source: MLCommons' Croissant format, version 1.1, and its vocabulary for responsible AI.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from alignset.pipeline.datasets.contents import LICENCES, is_licence
from alignset.pipeline.datasets.reproduce import open_flag
from alignset.pipeline.documents.card import Earlier, limits, statements
from alignset.pipeline.runs.documents import Funnel, Manifest, ShardEntry
from alignset.pipeline.shown_texts import counted
from alignset.transforms.columns.carried import type_of
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS
from alignset.transforms.columns.records import REJECTED, extend_schema
from alignset.transforms.rules.language_codes import ALL, voter_of
from alignset.transforms.shards.shard_files import SHARD_SCHEMA

_TERMS = (
    "annotation arrayShape citeAs column containedIn equivalentProperty excludes extract field "
    "fileProperty fileObject fileSet format includes isArray isLiveDataset jsonPath key md5 "
    "parentField path readLines recordSet references regex repeated replace samplingRate sdVersion "
    "separator source subField transform unArchive value"
)
# What the specification has each such file begin with.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{name: f"cr:{name}" for name in _TERMS.split()},
}
VERSIONS = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
TO_BE_FILLED = "to be filled by whoever publishes this dataset"
# With more of them a reader takes seconds to begin: mlcroissant 0.9 s with 1,000, 4.2 with 3,000.
MOST_TARS = 1000
_TAR = "application/x-tar"
_MIME = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
_CITATION = (
    "@inproceedings{jia2021scaling, title={Scaling Up Visual and Vision-Language Representation "
    "Learning With Noisy Text Supervision}, author={Jia, Chao and others}, booktitle={ICML}, "
    "year={2021}}"
)
_UNPACKED = (
    "The images, named by the key of their pair. mlcroissant 1.1 keeps what it has unpacked under "
    "the path of the tar alone: give each dataset its own CROISSANT_CACHE."
)

Node = dict[str, Any]
Columns = Mapping[str, pa.DataType]


def croissant(
    manifest: Manifest, funnel: Funnel, earlier: Earlier, of_pages: Sequence[str] = ()
) -> bytes:
    """The file `croissant.json`.

    Records are `train`, `validation` where pairs are held out, `train_images` and
    `validation_images` with the images by their keys, and `rejected` for what was dropped.

    Args:
      of_pages: the columns of `pairs/` that `Contents` names.
    """
    markdown = statements(manifest, funnel, earlier)
    texts = {name: _plain(text) for name, text in markdown.items()}
    about, text_only = manifest.about or {}, manifest.job["text_only"]
    codes = [code for code in str(manifest.rules["language"]).split(",") if code not in ("", ALL)]
    days, pairs = manifest.fetched, counted(manifest.pairs, "pair")
    total = funnel.steps[0].seen if funnel.steps else 0
    what = "URLs of images, with their alt-texts" if text_only else "images and their alt-texts"
    method = ", by the filters of ALIGN (Jia et al., 2021)."
    method = f". {texts['method']}" if open_flag(manifest) else method
    collection = (texts[name] for name in ("crawled", "fetched", "opt_outs") if texts[name])
    changes = ("evaluation", "grown", "deduplications", "takedowns")
    nodes = [*_described(manifest, funnel, of_pages)]
    document = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": about.get("title", "alignset"),
        "description": f"{about.get('description', '')} {pairs} of {what}, of {total:,} that were "
        f"read{method} README.md is the card.".strip(),
        "conformsTo": VERSIONS,
        "license": about.get("license", TO_BE_FILLED),
        "creator": {"@type": "sc:Organization", "name": TO_BE_FILLED},
        "version": "1.0.0",
        "citeAs": _CITATION,
        "keywords": ["image-text pairs", "alt-text", "web", "ALIGN"],
        "inLanguage": codes if codes[1:] else "".join(codes) or None,
        "dateCreated": days.last if days else None,
        "rai:dataCollection": " ".join(["By a program, from the web.", *collection]),
        "rai:dataCollectionType": ["Web Scraping"],
        "rai:dataCollectionTimeFrame": [days.first, days.last] if days else None,
        "rai:dataPreprocessingProtocol": [
            *(f"{of.step}: {of.kept:,} of {of.seen:,} pairs were kept" for of in funnel.steps),
            *(texts[name] for name in changes if texts[name]),
        ],
        "rai:dataLimitations": [_plain(line) for line in limits(manifest, markdown)],
        "rai:personalSensitiveInformation": texts["personal"],
        "distribution": [node for node in nodes if node["@type"] != "cr:RecordSet"],
        "recordSet": [node for node in nodes if node["@type"] == "cr:RecordSet"],
    }
    present = {name: value for name, value in document.items() if value is not None}
    return (json.dumps(present, indent=2, ensure_ascii=False) + "\n").encode()


def _plain(markdown: str) -> str:
    return markdown.replace("**", "").replace("`", "")


def _described(manifest: Manifest, funnel: Funnel, of_pages: Sequence[str]) -> Iterator[Node]:
    """Yields the files, and the records in them. Lists and structs of the input are left out."""
    types = manifest.columns or {}
    carried = {name: type_of(kind) for name, kind in types.items() if isinstance(kind, str)}
    languages = LANGUAGE_COLUMNS if voter_of(manifest.rules) else ()
    if manifest.job["text_only"]:
        names = ["key", "url", "caption", "page_url", *of_pages, *languages]
        columns = dict.fromkeys(names, pa.string()) | carried
        yield from _table("train", "pairs", "pairs", columns) if manifest.pairs else ()
    else:
        own = [m.column for m in manifest.catalogue.measures.values() if m.column]
        names = [n for n in dict.fromkeys((*own, *languages)) if n not in REJECTED.names]
        schema = extend_schema(SHARD_SCHEMA, names)
        columns = {column.name: column.type for column in schema} | carried
        yield from _side(manifest.extension, "train", "shards", manifest.shards, columns)
        yield from _side(manifest.extension, "validation", "holdout", manifest.held_out, columns)
    if any(step.seen > step.kept for step in funnel.steps):
        names = ["key", "url", "caption", "step", "reason", "detail", "page_url"]
        columns = {name: REJECTED.field(name).type for name in names} | carried
        yield from _table("rejected", "rejected_files", "rejected", columns)


def _side(
    extension: str, name: str, folder: str, shards: Mapping[str, ShardEntry], columns: Columns
) -> Iterator[Node]:
    """Yields the files and records of the shards to train on, or of those that are held out."""
    tars = {f"{folder}/{n}.tar": of.sha256 for n, of in sorted(shards.items()) if of.pairs}
    if not tars:
        return
    yield from _table(name, f"{name}_sidecars", folder, columns)
    if len(tars) > MOST_TARS:
        yield _file_set(f"{name}_tars", f"{folder}/*.tar", _TAR)
        return
    for path, sha256 in tars.items():
        node = {"@type": "cr:FileObject", "@id": path, "name": path, "contentUrl": path}
        yield node | {"encodingFormat": _TAR, "sha256": str(sha256)}
    files = f"{name}_image_files"
    images = _file_set(files, f"*.{extension}", _MIME[extension])
    yield images | {"containedIn": [{"@id": path} for path in tars], "description": _UNPACKED}
    key = {"regex": rf"^([0-9a-f]{{16}})\.{extension}$"}
    sources = {
        "key": ("sc:Text", {"extract": {"fileProperty": "filename"}, "transform": key}),
        "image": ("sc:ImageObject", {"extract": {"fileProperty": "content"}}),
    }
    yield _records(f"{name}_images", files, sources)


def _table(name: str, files: str, folder: str, columns: Columns) -> Iterator[Node]:
    """Yields the Parquet files of a folder, and their rows."""
    yield _file_set(files, f"{folder}/*.parquet", "application/x-parquet")
    sources = {of: (_type(kind), {"extract": {"column": of}}) for of, kind in columns.items()}
    records = _records(name, files, sources)
    records["field"] = [field | _stated(field["name"]) for field in records["field"]]
    yield records | ({} if name == "rejected" else {"dataType": "sc:ImageObject"})


def _stated(column: str) -> Node:
    """The properties of a field whose column states a licence or terms of each image."""
    if column not in LICENCES and not is_licence(column):
        return {}
    said = LICENCES.get(column, "A column of the input.")
    is_license = column in ("page_rsl", "web_statement") or "licen" in column.lower()
    return {
        "description": f"{said} Nobody has checked it.",
        "equivalentProperty": "sc:license" if is_license else "sc:usageInfo",
    }


def _file_set(name: str, pattern: str, mime: str) -> Node:
    node = {"@type": "cr:FileSet", "@id": name, "name": name}
    return node | {"includes": pattern, "encodingFormat": mime}


def _records(name: str, files: str, sources: Mapping[str, tuple[str, Node]]) -> Node:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{field}",
            "name": field,
            "dataType": kind,
            "source": {"fileSet": {"@id": files}, **source},
        }
        for field, (kind, source) in sources.items()
    ]
    # A pair may have several rows of `rejected`.
    key = {} if name == "rejected" else {"key": {"@id": f"{name}/key"}}
    return {"@type": "cr:RecordSet", "@id": name, "name": name, **key, "field": fields}


def _type(kind: pa.DataType) -> str:
    names = {"Integer": "integer", "Boolean": "boolean", "Date": "date", "DateTime": "temporal"}
    for name, of_arrow in (names | {"Float": "floating"}).items():
        if getattr(pa.types, f"is_{of_arrow}")(kind):
            return f"sc:{name}"
    return "sc:Text"
