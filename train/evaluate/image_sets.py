"""Images with what a dataset says of each: captions, or the label of a class.

| form | captions | class |
|---|---|---|
| a folder with a subfolder for each class | | its name |
| a table beside a folder of images | a column; if need be language, split | a column; the same |
| Karpathy's `.json` (Flickr30K, MSCOCO) | sentences of a split | |
| XM3600's `captions.jsonl` | of each language | |
| lines beside a list of images (Multi30K, XTD10) | a line for each image | |
| shards | KEY.txt or a field of KEY.json | KEY.cls |
"""

import glob
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from alignset.train.data.find_shards import find_shards
from alignset.train.data.images import class_folders
from alignset.train.data.samples import FIELD, TXT, caption_lines, read_pairs
from alignset.train.data.tables import (
    IMAGE_COLUMNS,
    LANGUAGE_COLUMNS,
    TABLES,
    check_images,
    image_file,
    parse_languages,
    read_table,
)
from alignset.train.errors import SettingsError, counted
from alignset.train.evaluate.task_table import RetrievalSettings

CAPTION_COLUMNS = ("caption", "text", "title", "sentence", "raw", "comment")
LABEL_COLUMNS = ("label", "class", "class_name", "category", "target", "wnid")
_USUAL_SPLIT = "test"
_MOST_NAMED = 9  # splits in an error
_LONGEST_LINE = 1 << 20  # bytes
_MOST_LINES = 10_000_000
# What a JSON file of another form raises.
_WRONG_FORM = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
_LABELLED = (
    "name a folder with a subfolder of images for each class, a table with the columns image and "
    f"label ({', '.join(TABLES)}), or .tar shards with KEY.jpg and KEY.cls, the number of its class"
)


class Caption(NamedTuple):
    text: str
    language: str = ""  # empty where the dataset doesn't say
    name: str = ""  # as Crisscrossed Captions names it


class Item(NamedTuple):
    data: bytes  # the image's file
    about: Any  # a list of its captions, or the label of its class
    name: str
    identity: bytes = b""  # the file's SHA-256, where it was read before


@dataclass(frozen=True)
class FolderImages:
    """Images of a folder, gone through as often as one likes.

    Attributes:
      about: by the image's name in the folder.
    """

    folder: Path
    about: dict[str, Any]

    def __iter__(self) -> Iterator[Item]:
        for name, about in self.about.items():
            yield Item(image_file(self.folder / name), about, name)


@dataclass(frozen=True)
class StreamedImages:
    """Images that are read anew each time, such as the samples of shards."""

    read: Callable[[], Iterator[Item]]

    def __iter__(self) -> Iterator[Item]:
        return self.read()


ImageSet = FolderImages | StreamedImages
Captions = dict[str, list[Caption]]  # of each image, by its name


def find_captioned(flags: RetrievalSettings) -> ImageSet:
    """The set that `flags.data` names, with a list of `Caption` for each image; or one for each
    language, as "de=a.csv,en=b.csv".

    Raises:
      SettingsError: there is no such dataset, an image is missing, or there are no splits to choose
        from.
    """
    data, split, most = flags.data, flags.split, flags.captions_per_image
    by_language = parse_languages(data)
    if "" not in by_language:
        sets = {code: find_captioned(replace(flags, data=of)) for code, of in by_language.items()}
        return StreamedImages(partial(_read_languages, sets))
    path = Path(data)
    kind, named_by, splits = path.suffix.lower(), path, set[str]()
    if flags.image_list:
        named_by = Path(flags.image_list)
        captions = _read_lines(data, named_by)
    elif kind not in (".json", ".jsonl", *TABLES):
        if flags.images:
            raise SettingsError(f"--images goes with a file of captions; {data!r} is none")
        if split not in ("", _USUAL_SPLIT):
            raise SettingsError(
                f"shards have no splits: name the shards of {split!r}, without --split"
            )
        return StreamedImages(partial(_read_shards, find_shards(data), flags))
    elif not path.is_file():
        raise SettingsError(f"there is no file {data}: name a file of captions, or shards")
    elif kind == ".jsonl":
        captions = _read_xm3600(path)
    elif kind == ".json":
        captions, splits = _read_karpathy(path, split)
    else:
        rows, splits = _read_rows(path, CAPTION_COLUMNS, split, _USUAL_SPLIT)
        captions = {image: [] for image, *_ in rows}
        for image, text, language in rows:
            captions[image].append(Caption(text, language))
    if not captions and not flags.image_list:
        if not split or not splits:
            raise SettingsError(f"{data} has no captions: give each image one at least")
        names = ", ".join(sorted(splits)[:_MOST_NAMED])
        raise SettingsError(
            f"{data} has no captions in the split {split!r}: it has {names:.200}; name one with "
            "--split, or all with --split="
        )
    folder = Path(flags.images) if flags.images else named_by.parent
    check_images(folder, [*captions], named_by)
    return FolderImages(folder, {name: _first(own, most) for name, own in captions.items()})


def _first(captions: list[Caption], most: int) -> list[Caption]:
    """At most so many of each language; 0: all."""
    counts: Counter[str] = Counter()
    first = []
    for caption in captions:
        counts[caption.language] += 1
        first += [caption] if not most or counts[caption.language] <= most else []
    return first


def _read_languages(sets: dict[str, ImageSet]) -> Iterator[Item]:
    """Images of each language, which may be the same."""
    for language, images in sets.items():
        for item in images:
            yield item._replace(about=[c._replace(language=language) for c in item.about])


def _read_shards(shards: list[str], flags: RetrievalSettings) -> Iterator[Item]:
    several, field = flags.caption_lines or flags.caption_field, flags.caption_field
    for pair in read_pairs(shards, places=[FIELD + field] if field else TXT, languages=True):
        texts = caption_lines(pair.text) if several else [pair.text]
        texts = texts[: flags.captions_per_image or None]
        yield Item(pair.image, [Caption(text, pair.language) for text in texts], pair.key)


def _read_rows(
    path: Path, columns: Sequence[str], split: str, usual_split: str
) -> tuple[list[tuple[str, str, str]], set[str]]:
    """(image, caption or label, language) of a table's rows of a split; and which splits there
    are."""
    rows = [*read_table(path, IMAGE_COLUMNS, columns, LANGUAGE_COLUMNS, ("split", ""))]
    if split not in ("", usual_split) and not any(of_split for *_, of_split in rows):
        raise SettingsError(
            f"{path} has no column split, or it is empty: leave --split={split} out"
        )
    rows = [row for row in rows if row[0] and row[1]]
    return (
        [(image, said, code) for image, said, code, own in rows if split in ("", own) or not own],
        {of_split for *_, of_split in rows} - {""},
    )


def _read_karpathy(path: Path, split: str) -> tuple[Captions, set[str]]:
    """The captions of a split, and which splits there are, of `dataset_flickr30k.json` and
    `dataset_coco.json`, as they are distributed."""
    try:
        captions, splits = Captions(), set[str]()
        for entry in json.loads(path.read_bytes())["images"]:
            if "split" in entry and entry["sentences"]:
                splits.add(str(entry["split"]))
            if split and entry["split"] != split:
                continue
            own = [
                Caption(_text(sentence["raw"]), name=str(sentence.get("sentid", "")))
                for sentence in entry["sentences"]
            ]
            if own := [caption for caption in own if caption.text]:  # an empty one tells nothing
                folder = entry.get("filepath", "")  # MSCOCO's have one, such as val2014
                name = f"{folder}/{entry['filename']}" if folder else str(entry["filename"])
                captions[name] = own
        return captions, splits
    except _WRONG_FORM as error:
        raise SettingsError(
            f"{path} is not a file of captions ({error!r:.120}): it must have images, each with "
            "filename, split and sentences, as Karpathy's splits do"
        ) from error


def _text(text: object) -> str:
    """JSON may name halves of characters, for which no model has a token.

    Raises:
      TypeError: it is not a text.
    """
    if not isinstance(text, str):
        raise TypeError(f"a caption is {text!r:.40}")
    return text.encode("utf-8", "replace").decode().strip()


def _read_xm3600(path: Path) -> Captions:
    """By the file's name, as XM3600's `captions.jsonl` has them."""
    captions: Captions = {}
    for number, line in enumerate(_lines(path), 1):
        try:
            record: dict[str, Any] = json.loads(line)
            captions[f"{record['image/key']}.jpg"] = [
                Caption(_text(text), language)
                for language, of in record.items()
                if isinstance(of, dict)
                for text in of["caption"]
                if text.strip()
            ]
        except _WRONG_FORM as error:
            raise SettingsError(
                f"line {number} of {path} is not as in XM3600's captions.jsonl ({error!r:.120}): "
                'it must be an object with "image/key" and, by language, a "caption" list'
            ) from error
    return captions


def _read_lines(pattern: str, image_list: Path) -> Captions:
    """The nth line of each file that matches, such as task2/raw/test_2016.*.en.gz, is of the nth
    image of the list."""
    files = [Path(name) for name in sorted(glob.glob(pattern))] or [Path(pattern)]
    names = [line.partition("#")[0].strip() for line in _lines(image_list)]
    captions: Captions = {name: [] for name in names if name}
    for file in files:
        for number, (name, text) in enumerate(zip_longest(names, _lines(file)), 1):
            if name is None or text is None:
                longer = file if name is None else image_list
                raise SettingsError(
                    f"{file} and {image_list} have not as many lines: {longer} has a line {number} "
                    "too; name the list of the same split"
                )
            if name and text.strip():
                captions[name].append(Caption(text.strip()))
    return captions


def _lines(path: Path) -> Iterator[str]:
    open_file: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with open_file(path, "rb") as file:
            for _ in range(_MOST_LINES):
                line = file.readline(_LONGEST_LINE)
                if not line:
                    return
                if len(line) == _LONGEST_LINE:
                    raise ValueError(f"a line of {counted(_LONGEST_LINE, 'byte')} or more")
                yield line.decode("utf-8").rstrip("\r\n")
        raise ValueError(f"more than {_MOST_LINES:,} lines")
    except (OSError, EOFError, ValueError) as error:  # of gzip, of UTF-8
        raise SettingsError(f"{path} can't be read as lines in UTF-8 ({error!s:.120})") from error


def class_labels(images: ImageSet) -> list[str] | None:
    """The labels in order; None of shards: only going through all of them would tell."""
    return sorted({*images.about.values()}) if isinstance(images, FolderImages) else None


def labelled_languages(data: str) -> list[str]:
    """The languages that a table's rows are in, in order; empty: it says none, or is not a table.

    Raises:
      SettingsError: it can't be read as one.
    """
    path = Path(data)
    if path.suffix.lower() not in TABLES or not path.is_file():
        return []
    return sorted({language for (language,) in read_table(path, LANGUAGE_COLUMNS)} - {""})


def find_labelled(data: str, *, images: str = "", split: str = "", language: str = "") -> ImageSet:
    """The set that `data` names, with a label for each image: a folder's name, a number, a name.

    Args:
      language: of a table's rows, where it has languages; empty: all.
      images: the folder of the images that a table names; empty: the table's own folder.
      split: which of a table's splits, where it has any; empty: all.

    Raises:
      SettingsError: there is none, a folder has no image, or an image is missing.
    """
    path = Path(data)
    if path.suffix.lower() in TABLES:
        if not path.is_file():
            raise SettingsError(
                f"there is no file {path}: name a table of images and their classes"
            )
        rows, _ = _read_rows(path, LABEL_COLUMNS, split, "")
        languages = ("", language)
        labels = {image: label for image, label, own in rows if not language or own in languages}
        if not labels:
            raise SettingsError(f"{path} has no image with a class: see --split")
        folder = Path(images) if images else path.parent
        check_images(folder, [*labels], path)
        return FolderImages(folder, labels)
    for flag, value in (("images", images), ("split", split)):
        if value:
            raise SettingsError(f"--{flag} goes with a table of classes; {data!r} is none")
    if path.is_dir() and not any(path.glob("*.tar")):
        folders = class_folders(path)
        return FolderImages(path, {file: name for name, own in folders.items() for file in own})
    try:
        shards = find_shards(data)
    except SettingsError as error:
        if "://" in data or data.startswith("pipe:"):  # which may be one of shards alone
            raise
        raise SettingsError(f"no images with classes at {data!r}: {_LABELLED}") from error
    return StreamedImages(
        lambda: (Item(p.image, p.text, p.key) for p in read_pairs(shards, places=["cls"]))
    )
