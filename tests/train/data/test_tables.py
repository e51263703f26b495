"""Tables that others made: what is read of them, and what each mistake is answered by."""

from pathlib import Path

import pytest

from alignset.train.data.tables import check_images, image_file, read_table
from alignset.train.errors import SettingsError


def table(folder: Path, text: str, name: str = "a.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


COLUMNS = (("image", "filename"), ("caption",), ("language", ""))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('image,caption\na.png,"one, two"\n', [["a.png", "one, two", ""]]),
        ("\ufeffCaption\tfileName\tx\n two \tb.png\t1\n\n", [["b.png", "two", ""]]),
        ("language,image,caption\r\nde,c.png,drei\r\n", [["c.png", "drei", "de"]]),
        (",image,caption\n0,a.png,one\n", [["a.png", "one", ""]]),  # an index without a name
        ("image,caption\n", []),
    ],
)
def test_columns_are_found_by_their_names(tmp_path: Path, text: str, expected: list):
    assert list(read_table(table(tmp_path, text), *COLUMNS)) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column 'image'"),
        ("picture,caption\n", "no column 'image'.*it has picture, caption"),
        ("image,caption\na.png\n", "row 2 of .* has 1 field where its header has 2"),
        ("image,caption\na.png," + "x" * (1 << 21), "can't be read as a table"),
        ("image,caption\n\0\0", "row 2|can't be read"),
    ],
)
def test_what_is_no_such_table_is_told_in_a_line(tmp_path: Path, text: str, says: str):
    with pytest.raises(SettingsError, match=says) as error:
        list(read_table(table(tmp_path, text), *COLUMNS))
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b"image,caption\n\xff\xfe,b\n")
    with pytest.raises(SettingsError, match="UTF-8"):
        list(read_table(tmp_path / "a.csv", *COLUMNS))
    with pytest.raises(SettingsError, match="No such file"):
        list(read_table(tmp_path / "b.csv", *COLUMNS))


def test_images_that_are_not_there(tmp_path: Path):
    said_by = tmp_path / "a.csv"
    (tmp_path / "a.png").write_bytes(b"1")
    check_images(tmp_path, ["a.png", "a.png"], said_by)
    for names, says in (
        (["a.png", "b.png", "c.png", "b.png"], "2 of the images .* the first 'b.png'"),
        (["../a.png"], "which is not in"),
        (["/etc/passwd"], "which is not in"),
    ):
        with pytest.raises(SettingsError, match=says):
            check_images(tmp_path, names, said_by)
    with pytest.raises(SettingsError, match="there is no folder"):
        check_images(tmp_path / "nothing", ["a.png"], said_by)


def test_a_file_of_more_bytes_than_any_image_is_none(tmp_path: Path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(1 << 26)
    assert image_file(tmp_path / "a.png") == b""
