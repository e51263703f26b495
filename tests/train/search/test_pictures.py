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
    ("column", "url"),
    [
        (BYTES.view(pa.string()), "http://\ufffd/"),
        (BYTES, "http://\ufffd/"),
        (pa.array([b"http://a/"], pa.large_binary()), "http://a/"),
        (pa.array(["http://[.]/"]).dictionary_encode(), "http://[.]/"),
        (pa.array([7]), "7"),
        (pa.nulls(1), ""),
    ],
    ids=str,
)
def test_urls_of_any_kind(tmp_path: Path, column: pa.Array, url: str) -> None:
    assert first_of(tmp_path, key=[KEY], url=column).url == url


def test_keys_that_are_no_utf8_are_of_no_picture(tmp_path: Path) -> None:
    assert first_of(tmp_path, key=BYTES.view(pa.string()), url=["http://a/"]).url == ""


@pytest.mark.parametrize("score", ["0.5", Decimal("0.5"), 0.5], ids=repr)
def test_scores_of_any_kind(tmp_path: Path, score: object) -> None:
    assert first_of(tmp_path, key=[KEY], unsafe_score=[score]).unsafe_score == 0.5


@pytest.mark.parametrize(
    "columns", [{"unsafe_score": [[0.5]]}, {"unsafe_score": ["high"]}, {"url": [["http://a/"]]}]
)
def test_sidecars_that_cannot_be_read(tmp_path: Path, columns: dict[str, object]) -> None:
    with pytest.raises(TrainingError, match=r"0.parquet cannot be read \(.*\): put it right"):
        first_of(tmp_path, key=[KEY], **columns)


def test_captions_in_rows_that_are_too_short(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(colour_files(0, 1)[f"{KEY}.png"])
    for rows, text in (
        ("red\n", "row 2 of .* has 1 field"),
        ("red,b.png\n", "has 1 caption of what is not among the images"),
    ):
        (tmp_path / "captions.csv").write_text("caption,file\n" + rows)
        with pytest.raises(SettingsError, match=text):
            find_sources(str(tmp_path))


def test_a_folder_of_other_formats_alone(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_bytes(b"<svg/>")
    with pytest.raises(SettingsError, match=r"images that are read \(1 .svg; .*'a.svg'\): name"):
        find_sources(str(tmp_path))
