"""Opt-outs within images: the images of Pillow's tests, in which ExifTool writes what may be done
with them; and those of the c2pa crate, which have manifests. ExifTool reads them all again."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alignset.transforms.images.file_formats import FileLook
from alignset.transforms.opt_outs.file_opt_outs import file_opt_outs
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from tests.suites.case import Case
from tests.suites.images import pictures
from tests.suites.packages import run, unpacked

_VALUES = (
    *("", "DMI-UNSPECIFIED", "DMI-ALLOWED", "DMI-PROHIBITED", "DMI-PROHIBITED-AIMLTRAINING"),
    *("DMI-PROHIBITED-GENAIMLTRAINING", "DMI-PROHIBITED-EXCEPTSEARCHENGINEINDEXING"),
    *("DMI-PROHIBITED-SEECONSTRAINT", "DMI-PROHIBITED-SEEEMBEDDEDRIGHTSEXPR"),
)
_REFUSED = ("notAllowed", "constrained")


def cases() -> Iterator[Case]:
    """Yields a case for each image: its opt-outs, and what states its licence."""
    with tempfile.TemporaryDirectory() as scratch:
        for number, file in enumerate(pictures()):
            value = _VALUES[number % len(_VALUES)] or "none"
            (folder := Path(scratch, value)).mkdir(exist_ok=True)
            shutil.copy(file, folder / f"{number}-{file.name}")
        for value in filter(None, _VALUES):
            stated = [f"-XMP-plus:DataMining#={value}", f"-XMP-xmpRights:UsageTerms=See <{value}>"]
            stated += ["-XMP-xmpRights:WebStatement=http://a.test/?a=1&b=é", f"{scratch}/{value}"]
            # Some are broken or of a format that it does not write, and are left as they are.
            _exiftool("-overwrite_original", "-q", "-q", "-m", *stated)
        yield from _compared(Path(scratch))
    yield from _compared(unpacked("c2pa"))


def _compared(folder: Path) -> Iterator[Case]:
    shown = ("-XMP-plus:DataMining", "-XMP-xmpRights:all", "-JUMBF:all")
    found = _exiftool("-j", "-n", "-q", "-q", "-r", "-G1:3", "-struct", *shown, str(folder))
    for tags in json.loads(found or "[]"):
        path = Path(tags.pop("SourceFile"))
        ends = {key.rpartition(":")[2]: value for key, value in tags.items()}
        mining = str(ends.get("DataMining", ""))
        theirs = (
            ("xmp_data_mining",) * mining.startswith("DMI-PROHIBITED")
            + ("c2pa",) * any(map(_refuses, tags.values())),
            ends.get("WebStatement"),
            ends.get("UsageTerms"),
        )
        ours = file_opt_outs(FileLook(path.read_bytes()), OptOutSettings())
        yield Case(str(path.relative_to(folder)), theirs, tuple(ours))


def _refuses(entries: Any) -> bool:
    uses = entries.values() if isinstance(entries, dict) else ()
    return any(isinstance(use, dict) and use.get("use") in _REFUSED for use in uses)


def _exiftool(*arguments: str) -> str:
    folder = unpacked("exiftool-vendored.pl") / "bin"
    return run(
        ["perl", "-I", str(folder / "lib"), str(folder / "exiftool"), *arguments], codes=(0, 1)
    )
