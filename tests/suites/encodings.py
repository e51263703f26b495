"""Encodings of pages: html5lib's tests of what a browser finds in the first kilobyte."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from alignset.transforms.pages.html_elements import encoding_of
from tests.suites.case import Case
from tests.suites.packages import unpacked

_CASE = re.compile(rb"^#data\n(.*?)\n#encoding\n(\S+)", re.M | re.S)
_FRENCH = "\nL'été, la forêt était là où les élèves étaient déjà à l'œuvre".encode("cp1252")


def cases() -> Iterator[Case]:
    """Yields a case for each page: its encoding."""
    folder = unpacked("html5lib") / "html5lib" / "tests" / "testdata" / "encoding"
    for file in sorted(folder.glob("*.dat")):
        for page, label in _CASE.findall(file.read_bytes()):
            theirs = codecs.lookup(encoding_of(b"", label.decode())).name
            # Not UTF-8, so that only a declaration makes it that.
            ours = encoding_of(page + _FRENCH, "")
            yield Case(page.decode("latin1"), theirs, codecs.lookup(ours).name)
