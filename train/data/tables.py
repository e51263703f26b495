"""CSV and TSV files that others made: columns by their usual names, images in a folder."""

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from alignset.train.data.samples import LONGEST_IMAGE
from alignset.train.errors import SettingsError, counted

_LONGEST_FIELD = 1 << 20  # characters
TABLES = (".csv", ".tsv", ".txt")
LANGUAGE_COLUMNS = ("language", "lang", "")
_CODE = r"[a-z]{2,3}(?:-[A-Za-z0-9]{1,8})*"
IMAGE_COLUMNS = ("image", "filename", "file_name", "filepath", "image_path", "path", "file")


def read_table(path: Path, *columns: Sequence[str]) -> Iterator[list[str]]:
    """The fields of these columns in each row; a column has one of several names.

    A column whose names end with "" may be missing; its fields are empty.

    Raises:
      SettingsError: the file can't be read, lacks a column, or has a row that is too short.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next(file, "").rstrip("\r\n")
            dialect = csv.excel_tab if "\t" in first else csv.excel
            header = [name.strip().lower() for name in next(csv.reader([first], dialect), [])]
            indices = []  # of the columns; -1: one that may be missing is
            for names in columns:  # a header may have an empty one too, as of an index
                known = [header.index(name) for name in filter(None, names) if name in header]
                if not known and "" not in names:
                    raise SettingsError(
                        f"{path} has no column {names[0]!r}: its first line must name the columns, "
                        f"and this one may be called {', '.join(names)}; it has "
                        f"{', '.join(header) or 'none'}"
                    )
                indices.append(known[0] if known else -1)
            for number, row in enumerate(csv.reader(file, dialect), 2):
                if row and len(row) <= max(indices):
                    raise SettingsError(
                        f"row {number} of {path} has {counted(len(row), 'field')} where its header "
                        f"has {len(header)}: quote fields that have a comma or a line break in them"
                    )
                if row:
                    yield [row[index].strip() if index >= 0 else "" for index in indices]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{path} can't be read as a table in UTF-8 ({error!s:.120})") from error


def finite_number(text: str, where: str) -> float:
    """A field as a number. Raises SettingsError, which names `where`, if it is none."""
    with suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    raise SettingsError(f"{where}: {text!r} is not a number: correct it, or leave the row out")


def parse_languages(value: str) -> dict[str, str]:
    """A flag's value for each language, as "de=a.csv,en=b.csv"; by "" where it names no language.

    Raises:
      SettingsError: a language is named twice.
    """
    if not re.match(f"{_CODE}=", value):
        return {"": value}
    parts = [part.partition("=") for part in re.split(f",(?={_CODE}=)", value)]
    by_language = {code: file for code, _, file in parts}
    if len(by_language) < len(parts):
        raise SettingsError(f"{value!r:.200} names a language twice: give each one file")
    return by_language


def check_images(folder: Path, names: Sequence[str], said_by: Path) -> None:
    """Raises SettingsError where a name is outside of the folder, or no file of it."""
    if not folder.is_dir():
        raise SettingsError(f"there is no folder {folder}: name the folder of {said_by}'s images")
    outside = [name for name in names if os.path.isabs(name) or ".." in Path(name).parts]
    if outside:
        raise SettingsError(
            f"{said_by} names {outside[0]!r:.200}, which is not in {folder}: pass names within the "
            "folder"
        )
    missing = [name for name in dict.fromkeys(names) if not os.path.isfile(folder / name)]
    if missing:
        raise SettingsError(
            f"{len(missing)} of the images that {said_by} names are not in {folder}, the first "
            f"{missing[0]!r:.200}: put them there, or take them out of the file"
        )


def image_file(path: Path) -> bytes:
    """The bytes of an image; of one that is larger than is ever decoded, none."""
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST_IMAGE + 1)
    except OSError as error:
        raise SettingsError(f"{path} can't be read ({error.strerror})") from error
    return data if len(data) <= LONGEST_IMAGE else b""
