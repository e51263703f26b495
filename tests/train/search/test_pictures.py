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


@pytest.mark.parametrize(
    ("columns", "url", "score"),
    [
        ({"url": BYTES.view(pa.string())}, "http://\ufffd/", None),
        ({"url": BYTES}, "http://\ufffd/", None),
        ({"url": pa.array([b"http://a/"], pa.large_binary())}, "http://a/", None),
        ({"url": pa.array(["http://[.]/"]).dictionary_encode()}, "http://[.]/", None),
        ({"url": [7]}, "7", None),
        ({"url": pa.nulls(1)}, "", None),
        ({"unsafe_score": ["0.5"]}, "", 0.5),
        ({"unsafe_score": [Decimal("0.5")]}, "", 0.5),
        ({"unsafe_score": [0.5], "url": ["http://a/"]}, "http://a/", 0.5),
        ({"key": BYTES.view(pa.string()), "url": ["http://a/"]}, "", None),
    ],
)
def test_sidecars_of_any_kind(
    tmp_path: Path, columns: dict[str, object], url: str, score: float | None
) -> None:
    picture = first_of(tmp_path, **{"key": [KEY]} | columns)
    assert (picture.url, picture.unsafe_score) == (url, score)


@pytest.mark.parametrize(
    "columns", [{"unsafe_score": [[0.5]]}, {"unsafe_score": ["high"]}, {"url": [["http://a/"]]}]
)
def test_sidecars_that_cannot_be_read(tmp_path: Path, columns: dict[str, object]) -> None:
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
