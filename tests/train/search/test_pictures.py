"""Where an index's images come from, of what anybody may have written."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.search.pictures import Picture, find_sources
from tests.support.train_shards import colour_files, write_tar

KEY = f"{0:016x}"
BYTES = pa.array([b"http://\xff/"])


def first_of(folder: Path, **columns: object) -> Picture:
    """The one image of a shard with a sidecar of these columns."""
    write_tar(folder / "0.tar", colour_files(0, 1))
    pq.write_table(pa.table(columns), folder / "0.parquet")
    (source,) = find_sources(str(folder))
    (picture,) = source.pictures()
    return picture


SIDECARS = {
    "large binary": ({"url": pa.array([b"http://a/"], pa.large_binary())}, ("http://a/", None)),
    "dictionary": ({"url": pa.array(["http://[.]/"]).dictionary_encode()}, ("http://[.]/", None)),
    "numbers as texts": ({"url": [7], "unsafe_score": ["0.5"]}, ("7", 0.5)),
    "nulls": ({"url": pa.nulls(1), "unsafe_score": [Decimal("0.5")]}, ("", 0.5)),
    "no key": ({"key": ["other"], "url": ["http://a/"]}, ("", None)),
    "not UTF-8": ({"url": BYTES.view(pa.string())}, None),
    "bytes": ({"url": BYTES}, None),
    "lists": ({"unsafe_score": [[0.5]]}, None),
    "words": ({"unsafe_score": ["high"]}, None),
}


@pytest.mark.parametrize(("columns", "expected"), SIDECARS.values(), ids=SIDECARS)
def test_sidecars_of_any_kind(tmp_path: Path, columns: dict, expected: tuple | None) -> None:
    if expected:
        picture = first_of(tmp_path, **{"key": [KEY]} | columns)
        assert (picture.url, picture.unsafe_score) == expected
        return
    with pytest.raises(TrainingError, match=r"0.parquet cannot be read \(.*\): put it right"):
        first_of(tmp_path, key=[KEY], **columns)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_bytes(b"<svg/>")
    with pytest.raises(SettingsError, match=r"images that are read \(1 .svg; .*'a.svg'\): name"):
        find_sources(str(tmp_path))
    (tmp_path / "a.png").write_bytes(colour_files(0, 1)[f"{KEY}.png"])
    for rows, text in (
        ("red\n", "row 2 of .* has 1 field"),
        ("red,b.png\n", "has 1 caption of what is not among the images"),
    ):
        (tmp_path / "captions.csv").write_text("caption,file\n" + rows)
        with pytest.raises(SettingsError, match=text):
            find_sources(str(tmp_path))
