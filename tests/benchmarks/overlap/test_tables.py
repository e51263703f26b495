import numpy as np
import pytest

from benchmarks.overlap.alterations import ALTERATIONS
from benchmarks.overlap.tables import Copies, recall_table, table, threshold_table, write_blocks

COUNT = len(ALTERATIONS)


def copies() -> Copies:
    """Four images: JPEGs first, and of either kind one that is chosen on."""
    distances = np.full((4, COUNT), 0.5)
    distances[1] = 0.1  # a JPEG, reported
    distances[2] = 0.2  # another, chosen on
    bits = np.full((4, COUNT), 20, np.int32)
    bits[1] = 4
    is_jpeg = np.array([True, True, False, False])
    return Copies(distances, bits, is_jpeg, np.array([True, False, True, False]))


def cells(line: str) -> list[str]:
    return [cell.strip(" *") for cell in line.strip("|").split("|")]


def test_recall_is_of_the_reported_half():
    lines = recall_table(copies(), 0.25, (2, 4)).splitlines()
    assert cells(lines[0]) == [
        "change",
        "copy, JPEGs",
        "copy, others",
        "pHash <= 2, all",
        "pHash <= 4, all",
    ]
    assert len(lines) == 2 + COUNT + 2
    assert {tuple(cells(line)[1:]) for line in lines[2 : 2 + COUNT]} == {
        ("1.00", "0.00", "0.00", "0.50")
    }
    assert cells(lines[-1])[1:] == ["1.000", "0.000", "0.000", "0.500"]


def test_thresholds_are_of_the_half_by_which_one_is_chosen():
    false = {"accepted": np.array([0.05, 0.15, 2.0])}
    lines = threshold_table(copies(), false, (0.1, 0.25, 0.6)).splitlines()
    assert [cells(line) for line in lines[2:]] == [
        ["0.1", "0.000", "0.000", "1"],
        ["0.25", "0.000", "1.000", "2"],
        ["0.6", "1.000", "1.000", "2"],
    ]


def test_blocks_of_a_page_are_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- one -->\nold\n<!-- end of one -->\nafter\n")
    for block in ("new", table(["a"], [["b"]])):
        write_blocks(page, {"one": block})
        assert page.read_text() == f"before\n<!-- one -->\n{block}\n<!-- end of one -->\nafter\n"
    with pytest.raises(ValueError, match="has no block"):
        write_blocks(page, {"two": "x"})
