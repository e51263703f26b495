"""The task as a user runs it."""

from pathlib import Path

import pytest

from tests.support.evaluations import colour_folders, evaluated, refused


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return colour_folders(tmp_path_factory.mktemp("probe") / "colours", each=6)


def test_its_strength_is_chosen_on_a_fifth(folders: Path, tmp_path: Path, capsys):
    test = colour_folders(tmp_path / "test", each=2, first=5)
    (test / "red" / "8.png").write_bytes(b"no image")
    result = evaluated(capsys, "probe", f"--data={folders}", f"--test={test}")
    assert (result["n"], result["trained_on"], result["validated_on"]) == (16, 48, 8)
    assert (result["top1"], result["skipped"], result["also_trained_on"]) == (100, 1, 8)
    assert f"{result['strength']:g}" in result["validation"]


def test_with_images_to_validate_on(folders: Path, tmp_path: Path, capsys):
    flags = (f"--data={folders}", f"--test={colour_folders(tmp_path / 'test', each=7)}")
    held = colour_folders(tmp_path / "held", each=1)
    page = tmp_path / "page.html"
    result = evaluated(capsys, "probe", *flags, f"--validation={held}", f"--page={page}")
    assert (result["trained_on"], result["validated_on"]) == (48, 8)
    assert page.read_text().count("<img ") == 24


def test_bad_input_is_one_line(folders: Path, tmp_path: Path, capsys):
    few = colour_folders(tmp_path / "few", each=2)
    other = colour_folders(tmp_path / "other", each=7)
    for flags, says in (
        ((f"--data={few}", f"--test={other}"), "fewer than 5 images of each class"),
        ((f"--data={other}", f"--test={folders}"), "all images of --test are in --data"),
    ):
        assert says in refused(capsys, "probe", *flags)
