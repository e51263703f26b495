"""A set as Croissant describes it, for machines: its files and the fields of its records.

Source: MLCommons' Croissant format, version 1.0, and its vocabulary for responsible AI.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from alignset.pipeline.datasets.reproduce import open_flag
from alignset.pipeline.documents.wording import (
    Earlier,
    crawl_days,
    fetch_span,
    limitations,
    method,
    opt_out_text,
)
from alignset.pipeline.runs.documents import Funnel, Manifest, ShardEntry
from alignset.pipeline.shown_texts import counted
from alignset.transforms.columns.carried import type_of
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS
from alignset.transforms.columns.rejects import REJECTED, with_columns
from alignset.transforms.rules.language_codes import ALL, voter_of
from alignset.transforms.shards.shard_files import SHARD_SCHEMA

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
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        name: f"cr:{name}"
        for name in (
            *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty"),
            *("fileObject", "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key"),
            *("md5", "parentField", "path", "recordSet", "references", "regex", "repeated"),
            *("replace", "samplingRate", "separator", "source", "subField", "transform"),
        )
    },
}
VERSIONS = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
TO_BE_FILLED = "to be filled by whoever publishes this dataset"
# With more of them a reader takes seconds to begin: mlcroissant 0.9 s with 1,000, 4.2 with 3,000.
MOST_TARS = 1000
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
_PAIR_COLUMNS = ("key", "url", "caption", "page_url")  # of `pairs/`
_REJECT_COLUMNS = ("key", "url", "caption", "step", "reason", "detail", "page_url")
_TOLD = {
    "key": "16 hex digits, of a hash of the URL and the alt-text",
    "caption": "the alt-text",
    "sha256": "of the image as it was fetched",
    "phash": "64-bit perceptual hash, in hex",
    "reason": "why the pair was dropped",
}

Node = dict[str, Any]


def croissant(manifest: Manifest, funnel: Funnel, earlier: Earlier) -> bytes:
    """The file `croissant.json`.

    Records are `train`, `validation` where pairs are held out, `train_images` and
    `validation_images` with the images by their keys, and `rejected` for what was dropped.
    """
    files, records = _files_and_records(manifest, funnel)
    document = {"@context": CONTEXT, **_head(manifest, funnel, earlier)}
    document |= {"distribution": files, "recordSet": records}
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _head(manifest: Manifest, funnel: Funnel, earlier: Earlier) -> Node:
    text_only = bool(manifest.job["text_only"])
    languages = [
        code for code in str(manifest.rules["language"]).split(",") if code not in ("", ALL)
    ]
    what = "URLs of images, with their alt-texts" if text_only else "images and their alt-texts"
    total = funnel.steps[0].seen if funnel.steps else 0
    days = {"dateCreated": manifest.fetched.last} if manifest.fetched else {}
    about = manifest.about or {}
    counts = f"{counted(manifest.pairs, 'pair')} of {what}, of {total:,} that were read"
    by = ", by the filters of ALIGN (Jia et al., 2021)."
    by = by if not open_flag(manifest) else f". {method(manifest, funnel)}"
    frame = [manifest.fetched.first, manifest.fetched.last] if manifest.fetched else []
    crawl_note = f" The pages were crawled {crawl_days(funnel)}." if crawl_days(funnel) else ""
    fetch_note = f" The images were fetched {fetch_span(manifest)}." if fetch_span(manifest) else ""
    return {
        "@type": "sc:Dataset",
        "name": about.get("title", "alignset"),
        "description": f"{about.get('description', '')} {counts}{by} README.md is the "
        "card.".strip(),
        "conformsTo": VERSIONS,
        "license": about.get("license", TO_BE_FILLED),
        "creator": {"@type": "sc:Organization", "name": TO_BE_FILLED},
        "version": f"1.{len(manifest.retries or [])}.0",
        "citeAs": _CITATION,
        "keywords": ["image-text pairs", "alt-text", "web", "ALIGN"],
        **({"inLanguage": languages if languages[1:] else languages[0]} if languages else {}),
        **days,
        "rai:dataCollection": f"By a program, from the web.{crawl_note}{fetch_note} "
        f"{_plain(opt_out_text(manifest, earlier))}",
        "rai:dataCollectionType": ["Web Scraping"],
        **({"rai:dataCollectionTimeFrame": frame} if frame else {}),
        "rai:dataPreprocessingProtocol": [
            f"{step.step}: {step.kept:,} of {step.seen:,} pairs were kept" for step in funnel.steps
        ],
        "rai:dataLimitations": [_plain(line) for line in limitations(manifest, funnel, earlier)],
        "rai:personalSensitiveInformation": "Names, faces and addresses in texts and images stay.",
    }


def _plain(markdown: str) -> str:
    return markdown.replace("**", "").replace("`", "")


def _of_languages(manifest: Manifest) -> tuple[str, ...]:
    """The columns of languages, where a detector found each text's."""
    return LANGUAGE_COLUMNS if voter_of(manifest.rules) else ()


def _input_columns(manifest: Manifest) -> dict[str, pa.DataType]:
    """The columns that came from the input; lists and structs are not described."""
    names = manifest.columns or {}
    return {name: type_of(kind) for name, kind in names.items() if isinstance(kind, str)}


def _files_and_records(manifest: Manifest, funnel: Funnel) -> tuple[list[Node], list[Node]]:
    if manifest.job["text_only"]:
        files = [_parquet("pairs", "pairs/*.parquet")] if manifest.pairs else []
        columns = dict.fromkeys((*_PAIR_COLUMNS, *_of_languages(manifest)), pa.string())
        columns |= _input_columns(manifest)
        records = [_record_set("train", "pairs", columns)] if manifest.pairs else []
    else:
        files, records = [], []
        for name, folder, shards in (
            ("train", "shards", manifest.shards),
            ("validation", "holdout", manifest.held_out),
        ):
            more_files, more_records = _side(manifest, name, folder, shards)
            files, records = [*files, *more_files], [*records, *more_records]
    if any(step.seen > step.kept for step in funnel.steps):
        files.append(_parquet("rejected_files", "rejected/*.parquet"))
        columns = {name: REJECTED.field(name).type for name in _REJECT_COLUMNS}
        columns |= _input_columns(manifest)
        records.append(_record_set("rejected", "rejected_files", columns))
    return files, records


def _side(
    manifest: Manifest, name: str, folder: str, shards: Mapping[str, ShardEntry]
) -> tuple[list[Node], list[Node]]:
    """The files and records of the shards to train on, or of those that are held out."""
    holding = {number: shard for number, shard in sorted(shards.items()) if shard.pairs}
    if not holding:
        return [], []
    sidecars, tars = f"{name}_sidecars", f"{name}_tars"
    files = [_parquet(sidecars, f"{folder}/*.parquet")]
    own = [m.column for m in manifest.catalogue.measures.values() if m.column]
    own += _of_languages(manifest)
    schema = with_columns(SHARD_SCHEMA, [n for n in dict.fromkeys(own) if n not in REJECTED.names])
    columns = {column.name: column.type for column in schema} | _input_columns(manifest)
    records = [_record_set(name, sidecars, columns)]
    if len(holding) > MOST_TARS:
        return [*files, _file_set(tars, f"{folder}/*.tar", "application/x-tar")], records
    nodes = [_tar(f"{folder}/{number}.tar", str(shard.sha256)) for number, shard in holding.items()]
    extension = manifest.extension
    images = _file_set(f"{name}_image_files", f"*.{extension}", _MIME[extension])
    images |= {"containedIn": [{"@id": tar["@id"]} for tar in nodes], "description": _UNPACKED}
    return [*files, *nodes, images], [*records, _image_records(f"{name}_images", images, extension)]


def _tar(path: str, sha256: str) -> Node:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "encodingFormat": "application/x-tar",
        "sha256": sha256,
    }


def _parquet(name: str, pattern: str) -> Node:
    return _file_set(name, pattern, "application/x-parquet")


def _file_set(name: str, pattern: str, mime: str) -> Node:
    node = {"@type": "cr:FileSet", "@id": name, "name": name}
    return node | {"includes": pattern, "encodingFormat": mime}


def _record_set(name: str, files: str, columns: Mapping[str, pa.DataType]) -> Node:
    fields = [
        _field(name, column, _data_type(kind), files, {"column": column})
        for column, kind in columns.items()
    ]
    return _records(name, fields)


def _image_records(name: str, images: Node, extension: str) -> Node:
    key = _field(name, "key", "sc:Text", images["@id"], {"fileProperty": "filename"})
    key["source"]["transform"] = {"regex": rf"^([0-9a-f]{{16}})\.{extension}$"}
    image = _field(name, "image", "sc:ImageObject", images["@id"], {"fileProperty": "content"})
    return _records(name, [key, image])


def _records(name: str, fields: Sequence[Node]) -> Node:
    node: Node = {"@type": "cr:RecordSet", "@id": name, "name": name}
    if name != "rejected":  # where a pair may have several rows
        node["key"] = {"@id": f"{name}/key"}
    return node | {"field": [*fields]}


def _field(records: str, name: str, kind: str, files: str, extract: Node) -> Node:
    description = {"description": _TOLD[name]} if name in _TOLD else {}
    source = {"fileSet": {"@id": files}, "extract": extract}
    node = {"@type": "cr:Field", "@id": f"{records}/{name}", "name": name, **description}
    return node | {"dataType": kind, "source": source}


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_temporal(kind):
        return "sc:Date" if pa.types.is_date(kind) else "sc:DateTime"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"
