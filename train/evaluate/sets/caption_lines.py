"""Captions in several languages as their sets are distributed: lines beside a list of images
(Multi30K, XTD10, XTD200, Flickr30k-200) and the JSON lines of XM3600."""

import glob
import gzip
import json
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from alignset.train.errors import SettingsError, counted

_LONGEST_LINE = 1 << 20  # bytes
_MOST_LINES = 10_000_000
_UNREADABLE = (OSError, EOFError, ValueError)  # of gzip, of UTF-8


def read_lines(pattern: str, image_list: Path) -> dict[str, list[str]]:
    """The captions of each image: the nth line of each file that matches is of the nth image.

    Args:
      pattern: a file, or several as task2/raw/test_2016.*.en.gz; may be gzipped.
      image_list: a line for each image, its name.

    Raises:
      SettingsError: a file can't be read, or has not as many lines as there are images.
    """
    files = [Path(name) for name in sorted(glob.glob(pattern))] or [Path(pattern)]
    names = [line.partition("#")[0].strip() for line in _lines(image_list)]
    captions: dict[str, list[str]] = {name: [] for name in names if name}
    for file in files:
        for number, (name, text) in enumerate(zip_longest(names, _lines(file)), 1):
            if name is None or text is None:
                longer = file if name is None else image_list
                raise SettingsError(
                    f"{file} and {image_list} have not as many lines: {longer} has a line {number} "
                    "too; name the list of the same split"
                )
            if name and text.strip():
                captions[name].append(text.strip())
    return captions


def read_xm3600(path: Path) -> dict[str, list[tuple[str, str]]]:
    """(caption, language) of each image, by the name of its file, of XM3600's `captions.jsonl`.

    Raises:
      SettingsError: a line is not as in that file.
    """
    captions: dict[str, list[tuple[str, str]]] = {}
    for number, line in enumerate(_lines(path), 1):
        try:
            record: dict[str, Any] = json.loads(line)
            captions[f"{record['image/key']}.jpg"] = [
                (text.encode("utf-8", "replace").decode().strip(), language)
                for language, of in record.items()
                if isinstance(of, dict)
                for text in of["caption"]
                if text.strip()
            ]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise SettingsError(
                f"line {number} of {path} is not as in XM3600's captions.jsonl ({error!r:.120}): "
                'it must be an object with "image/key" and, by language, a "caption" list'
            ) from error
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
    except _UNREADABLE as error:
        raise SettingsError(f"{path} can't be read as lines in UTF-8 ({error!s:.120})") from error
