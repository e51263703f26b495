"""Images with captions: Karpathy's JSON, a table or lines beside a folder of images, shards."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
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
    image_file,
    per_language,
    read_table,
)
from alignset.train.errors import SettingsError
from alignset.train.evaluate.sets.caption_lines import read_lines, read_xm3600

CAPTION_COLUMNS = ("caption", "text", "title", "sentence", "raw", "comment")
_SPLITS = ("split", "")
_USUAL_SPLIT = "test"
_MOST_NAMED = 9  # splits in an error


class Caption(NamedTuple):
    text: str
    language: str = ""  # empty where the dataset doesn't say
    name: str = ""  # as Crisscrossed Captions names it


class CaptionedImage(NamedTuple):
    data: bytes
    captions: list[Caption]
    name: str = ""


@dataclass(frozen=True)
class CaptionedFiles:
    """Images in a folder. Goes through them as often as it is asked to.

    Attributes:
      captions: of each image, by its name in the folder.
    """

    folder: Path
    captions: dict[str, list[Caption]]

    def __iter__(self) -> Iterator[CaptionedImage]:
        for name, captions in self.captions.items():
            yield CaptionedImage(image_file(self.folder / name), captions, name)


@dataclass(frozen=True)
class CaptionedShards:
    """Pairs in WebDataset shards. Goes through them as often as it is asked to.

    Attributes:
      lines: each line of a text is a caption.
      field: of KEY.json, in which the captions are; empty: they are in KEY.txt.
      most: captions of an image, the first ones; 0: all.
    """

    shards: tuple[str, ...]
    lines: bool
    field: str = ""
    most: int = 0

    def __iter__(self) -> Iterator[CaptionedImage]:
        for pair in read_pairs(self.shards, self.field, languages=True):
            texts = caption_lines(pair.text) if self.lines else [pair.text]
            texts = texts[: self.most or None]
            captions = [Caption(each, pair.language) for each in texts]
            yield CaptionedImage(pair.image, captions, pair.key)


@dataclass(frozen=True)
class CaptionedLanguages:
    """A set for each language, which may have the same images."""

    sets: "dict[str, CaptionedSet]"

    def __iter__(self) -> Iterator[CaptionedImage]:
        for language, images in self.sets.items():
            for image in images:
                captions = [caption._replace(language=language) for caption in image.captions]
                yield image._replace(captions=captions)


CaptionedSet = CaptionedFiles | CaptionedShards | CaptionedLanguages


def find_captioned(
    data: str,
    *,
    images: str = "",
    split: str = _USUAL_SPLIT,
    lines: bool = False,
    field: str = "",
    most: int = 0,
    image_list: str = "",
) -> CaptionedSet:
    """The set that `data` names: a .json as Karpathy's, XM3600's .jsonl, a table, lines that go
    with `image_list`, else shards; or one for each language, as "de=a.csv,en=b.csv".

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
        how: dict[str, Any] = {"images": images, "split": split, "lines": lines, "field": field}
        how["image_list"] = image_list
        return CaptionedLanguages(
            {code: find_captioned(of, **how, most=most) for code, of in by_language.items()}
        )
    path = Path(data)
    if image_list:
        named_by = Path(image_list)
        captions = {
            name: [Caption(text) for text in own]
            for name, own in read_lines(data, named_by).items()
        }
        return _files(captions, Path(images or named_by.parent), most, named_by)
    if path.suffix.lower() not in (".json", ".jsonl", *TABLES):
        if images:
            raise SettingsError(f"--images goes with a file of captions; {data!r} is none")
        if split not in ("", _USUAL_SPLIT):
            raise SettingsError(f"shards have no splits: name those of {split!r}, without --split")
        return CaptionedShards(tuple(find_shards(data)), lines or bool(field), field, most)
    if not path.is_file():
        raise SettingsError(f"there is no file {data}: name a file of captions, or shards")
    captions, splits = _READERS.get(path.suffix.lower(), _read_table)(path, split)
    if not captions:
        raise SettingsError(_without_captions(data, split, splits))
    return _files(captions, Path(images) if images else path.parent, most, path)


def _files(
    captions: dict[str, list[Caption]], folder: Path, most: int, named_by: Path
) -> CaptionedFiles:
    """Images of a folder; of each language at most so many captions of an image."""
    check_images(folder, [*captions], named_by)
    if most:
        captions = {name: _first(own, most) for name, own in captions.items()}
    return CaptionedFiles(folder, captions)


def _first(captions: list[Caption], most: int) -> list[Caption]:
    counts: Counter[str] = Counter()
    first = []
    for caption in captions:
        counts[caption.language] += 1
        first += [caption] if counts[caption.language] <= most else []
    return first


def _without_captions(data: str, split: str, splits: set[str]) -> str:
    if not split or not splits:
        return f"{data} has no captions: give each image one at least"
    names = ", ".join(sorted(splits)[:_MOST_NAMED])
    return (
        f"{data} has no captions in the split {split!r}: it has {names:.200}; name one with "
        "--split, or all with --split="
    )


def _read_table(path: Path, split: str) -> tuple[dict[str, list[Caption]], set[str]]:
    """The captions of a split by image, and which splits there are."""
    captions: dict[str, list[Caption]] = {}
    columns = (IMAGE_COLUMNS, CAPTION_COLUMNS, LANGUAGE_COLUMNS, _SPLITS)
    rows = [*read_table(path, *columns)]
    if split != _USUAL_SPLIT:
        check_split(path, split, [of_split for *_, of_split in rows])
    for image, text, language, of_split in rows:
        if image and text and (not of_split or not split or of_split == split):
            captions.setdefault(image, []).append(Caption(text, language))
    return captions, {of_split for image, text, _, of_split in rows if image and text and of_split}


def _read_karpathy(path: Path, split: str) -> tuple[dict[str, list[Caption]], set[str]]:
    """The same of `dataset_flickr30k.json` and `dataset_coco.json`, as they are distributed."""
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_bytes())["images"]
        captions = {
            _karpathy_name(entry): own
            for entry in entries
            if (not split or entry["split"] == split) and (own := _karpathy_captions(entry))
        }
        return captions, {
            str(entry["split"]) for entry in entries if "split" in entry and entry["sentences"]
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise SettingsError(
            f"{path} is not a file of captions ({error!r:.120}): it must have images, each with "
            "filename, split and sentences, as Karpathy's splits do"
        ) from error


def _read_xm3600(path: Path, split: str) -> tuple[dict[str, list[Caption]], set[str]]:
    """The same of XM3600, which has no splits."""
    captions = read_xm3600(path)
    return {name: [Caption(*each) for each in own] for name, own in captions.items()}, set()


_READERS = {".json": _read_karpathy, ".jsonl": _read_xm3600}


def _karpathy_captions(entry: dict[str, Any]) -> list[Caption]:
    """Those that are not empty: an empty text tells nothing of an image."""
    captions = [
        Caption(_whole(sentence["raw"]), name=str(sentence.get("sentid", "")))
        for sentence in entry["sentences"]
    ]
    return [caption for caption in captions if caption.text]


def _whole(text: object) -> str:
    """JSON may name halves of characters, for which no model has a token.

    Raises:
      TypeError: it is not a text.
    """
    if not isinstance(text, str):
        raise TypeError(f"a caption is {text!r:.40}")
    return text.encode("utf-8", "replace").decode().strip()


def _karpathy_name(entry: dict[str, Any]) -> str:
    """MSCOCO's have a folder, such as val2014."""
    folder = entry.get("filepath", "")
    return f"{folder}/{entry['filename']}" if folder else str(entry["filename"])
