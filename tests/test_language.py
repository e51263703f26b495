import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from transforms.language import UNDETERMINED, language_of, languages, wrong_languages

ENGLISH = "two white dogs running along the beach in the morning"
GERMAN = "zwei weiße Hunde laufen am Morgen den Strand entlang"
CHINESE = "两只白色的狗早上在海滩上奔跑"
NO_LETTERS = "1920 x 1080 - 300"

# Many threads ask at once, before any profile of a language is loaded.
AT_ONCE = f"""
import pyarrow as pa
from transforms.language import languages
from transforms.threads import in_threads
columns = [pa.array([f"{ENGLISH} {{i}}"]) for i in range(8)]
print({{one for column in in_threads(languages, columns) for one in column.to_pylist()}})
"""


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        (GERMAN, "de"),
        (CHINESE, "zh-cn"),
        ("1920 - 300", UNDETERMINED),
        ("", "und"),
    ],
)
def test_the_language_of_a_text(text: str, language: str) -> None:
    assert language_of(text) == language


def test_an_answer_is_a_function_of_the_text_alone() -> None:
    def afresh(text: str) -> str:
        language_of.cache_clear()
        return language_of(text)

    for text in ("dog", "mini bar"):  # without a seed langdetect gives two answers, 5 to 2
        assert len({afresh(text) for _ in range(12)}) == 1


def test_columns_and_slices_of_them() -> None:
    column = pa.array([GERMAN, ENGLISH, CHINESE, ENGLISH, ""])
    found = ["de", "en", "zh-cn", "en", "und"]
    assert languages(column).to_pylist() == found
    assert languages(column.slice(1, 3)).to_pylist() == found[1:4]
    assert languages(column.slice(5)).to_pylist() == []


@pytest.mark.parametrize(
    ("wanted", "rows", "named"),
    [
        ("en", [0, 2, 4], ["de", "zh-cn", "und"]),
        ("de", [1, 2, 3, 4], ["en", "zh-cn", "en", "und"]),
        ("", [], []),
    ],
)
def test_the_rows_in_another_language(wanted: str, rows: list[int], named: list[str]) -> None:
    column = pa.array([GERMAN, ENGLISH, CHINESE, ENGLISH, ""])
    found, languages_found = wrong_languages(column, wanted)
    assert (found.tolist(), languages_found.to_pylist()) == (rows, named)
    none, none_found = wrong_languages(column.slice(5), wanted)
    assert (none.tolist(), none_found.to_pylist()) == ([], [])


def test_threads_that_come_first_wait_for_the_profiles() -> None:
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "{'en'}"
