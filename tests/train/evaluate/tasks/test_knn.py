"""The task as a user runs it."""

from pathlib import Path

import pytest

from tests.support.evaluations import colour_folders, evaluated, refused


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return colour_folders(tmp_path_factory.mktemp("knn") / "colours")


@pytest.mark.parametrize("k", [1, 5])
def test_colours_are_near_their_like(folders: Path, tmp_path: Path, capsys, k: int):
    test = colour_folders(tmp_path / "test", each=1, first=5)
    (test / "red" / "1.png").write_bytes((folders / "blue" / "2.png").read_bytes())
    page = tmp_path / "page.html"
    flags = (f"--data={folders}", f"--test={test}", f"--k={k}", f"--page={page}")
    result = evaluated(capsys, "knn", *flags)
    assert (result["n"], result["labelled"], result["classes"], result["k"]) == (9, 24, 8, k)
    assert result["also_labelled"] == 1  # the blue one
    # One neighbour votes for one class: what is next best of it is not known.
    assert ("top5" in result, "top5" in result["chance"]) == (k == 5, k == 5)
    assert result["top1"] == pytest.approx(100 * 8 / 9, abs=1e-3)
    assert result["mean_per_class"] == pytest.approx(100 * 7.5 / 8, abs=1e-3)
    assert page.read_text().count("taken for blue") == 1


def test_bad_input_is_one_line(folders: Path, tmp_path: Path, capsys):
    other = colour_folders(tmp_path / "test", each=1)
    (other / "red").rename(other / "violet")
    both = (f"--data={folders}", f"--test={colour_folders(tmp_path / 'apart', each=1, first=9)}")
    for flags, says in (
        ((*both, "--k=0"), "k must be at least 1"),
        ((*both, "--k=25"), "k must be at most the 24 images"),
        ((*both, "--temperature=0"), "temperature above 0"),
        ((*both, "--temperature=nan"), "temperature above 0"),
        ((f"--data={folders}", f"--test={other}"), "'violet' of --data is no class"),
        ((f"--data={folders}",), "--test"),
        ((f"--data={folders}", f"--test={folders}"), "all images of --test are in --data"),
    ):
        assert says in refused(capsys, "knn", *flags)
