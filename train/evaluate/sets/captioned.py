"""Images with captions, in each form of `alignset evaluate retrieval --data`.

| form | datasets |
|---|---|
| `.json` as Karpathy's splits | Flickr30K, MSCOCO |
| a table: image, caption and, if need be, language and split | |
| `captions.jsonl` | XM3600 |
| lines beside a list of images | Multi30K, XTD10, XTD200, Flickr30k-200 |
| shards; LANGUAGE=FILE,... for any form | |
"""

import glob
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from alignset.train.data.find_shards import find_shards
from alignset.train.data.samples import caption_lines, read_pairs
from alignset.train.data.tables import (
    IMAGE_COLUMNS,
    LANGUAGE_COLUMNS,
    TABLES,
    check_images,
    check_split,
    per_language,
    read_table,
)
from alignset.train.errors import SettingsError, counted
from alignset.train.evaluate.sets.image_set import FolderImages, ImageSet, Item, StreamedImages

CAPTION_COLUMNS = ("caption", "text", "title", "sentence", "raw", "comment")
_USUAL_SPLIT = "test"
_MOST_NAMED = 9  # splits in an error
_LONGEST_LINE = 1 << 20  # bytes
_MOST_LINES = 10_000_000
# What a JSON file of another form raises.
_WRONG_FORM = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


class Caption(NamedTuple):
    text: str
    language: str = ""  # empty where the dataset doesn't say
    name: str = ""  # as Crisscrossed Captions names it


Captions = dict[str, list[Caption]]  # of each image, by its name


def find_captioned(
    data: str,
    *,
    images: str = "",
    split: str = _USUAL_SPLIT,
    lines: bool = False,
    field: str = "",
    most: int = 0,
    image_list: str = "",
) -> ImageSet:
    """The set that `data` names, with a list of `Caption` for each image; or one for each language,
    as "de=a.csv,en=b.csv".

    Args:
      images: the folder of the images that a file names; empty: the file's own folder.
      split: which of a file's splits, where it has any; empty: all.
      lines: of shards, whether each line of a text is a caption.
      field: of shards, in which field of KEY.json the captions are; empty: in KEY.txt.
      most: captions of an image that are used in each language, the first ones; 0: all.
      image_list: a file with the name of an image in each line; then `data` has lines of captions.

    Raises:
      SettingsError: there is no such dataset, an image is missing, `most` is below 0, or there are
        no splits to choose from.
    """
    if most < 0:
        raise SettingsError(f"--captions_per_image must be 0 (all) or more; got {most}")
    by_language = per_language(data)
    if "" not in by_language:
        options: dict[str, Any] = {"images": images, "split": split, "lines": lines}
        options |= {"field": field, "most": most, "image_list": image_list}
        sets = {code: find_captioned(of, **options) for code, of in by_language.items()}
        return StreamedImages(partial(_read_languages, sets))
    path = Path(data)
    kind, named_by, splits = path.suffix.lower(), path, set[str]()
    if image_list:
        named_by = Path(image_list)
        captions = _read_lines(data, named_by)
    elif kind not in (".json", ".jsonl", *TABLES):
        if images:
            raise SettingsError(f"--images goes with a file of captions; {data!r} is none")
        if split not in ("", _USUAL_SPLIT):
            raise SettingsError(f"shards have no splits: name those of {split!r}, without --split")
        shards = find_shards(data)
        return StreamedImages(partial(_read_shards, shards, lines or bool(field), field, most))
    elif not path.is_file():
        raise SettingsError(f"there is no file {data}: name a file of captions, or shards")
    elif kind == ".jsonl":
        captions = _read_xm3600(path)
    else:
        read = _read_karpathy if kind == ".json" else _read_table
        captions, splits = read(path, split)
    if not captions and not image_list:
        if not split or not splits:
            raise SettingsError(f"{data} has no captions: give each image one at least")
        names = ", ".join(sorted(splits)[:_MOST_NAMED])
        raise SettingsError(
            f"{data} has no captions in the split {split!r}: it has {names:.200}; name one with "
            "--split, or all with --split="
        )
    folder = Path(images) if images else named_by.parent
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


def _read_shards(shards: list[str], lines: bool, field: str, most: int) -> Iterator[Item]:
    for pair in read_pairs(shards, field, languages=True):
        texts = caption_lines(pair.text) if lines else [pair.text]
        captions = [Caption(text, pair.language) for text in texts[: most or None]]
        yield Item(pair.image, captions, pair.key)


def _read_table(path: Path, split: str) -> tuple[Captions, set[str]]:
    """The captions of a split by image, and which splits there are."""
    captions: Captions = {}
    rows = [*read_table(path, IMAGE_COLUMNS, CAPTION_COLUMNS, LANGUAGE_COLUMNS, ("split", ""))]
    if split != _USUAL_SPLIT:
        check_split(path, split, [of_split for *_, of_split in rows])
    for image, text, language, of_split in rows:
        if image and text and (not of_split or not split or of_split == split):
            captions.setdefault(image, []).append(Caption(text, language))
    return captions, {of_split for image, text, _, of_split in rows if image and text and of_split}


def _read_karpathy(path: Path, split: str) -> tuple[Captions, set[str]]:
    """The same of `dataset_flickr30k.json` and `dataset_coco.json`, as they are distributed."""
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
