"""The task as a user runs it."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from alignset.train.errors import SettingsError
from alignset.train.evaluate.tasks.words import read_words
from tests.support.evaluations import evaluated, refused
from tests.support.train_shards import COLOURS
from tests.support.word_embedder import WordEmbedder

ROWS = [
    *(("red", "a red", "A", 9.5), ("blue", "pink", "A", 1.2), ("green", "green here", "N", 8)),
    *(("grey", "black", "N", 2.5), ("white", "whitish", "N", 4), ("yellow", "the yellow", "A", 8)),
]


def write(path: Path, rows: list) -> Path:
    lines = ["word1\tword2\tPOS\tSimLex999\tconc(w1)"]
    lines += ["\t".join([*map(str, row), "1"]) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_as_simlex_is_distributed(tmp_path: Path, capsys):
    import scipy.stats  # 1 s, not for each worker

    file, page = write(tmp_path / "SimLex-999.txt", ROWS), tmp_path / "page.html"
    result = evaluated(capsys, "words", f"--data={file}", f"--page={page}")
    rows = [WordEmbedder().embed_texts([row[i] for row in ROWS]) for i in (0, 1)]
    expected = scipy.stats.spearmanr((rows[0] * rows[1]).sum(axis=1), [row[3] for row in ROWS])
    assert result["n"] == 6
    assert result["spearman"] == pytest.approx(100 * expected.statistic, abs=1e-3)
    assert result["parts"]["adjectives"]["n"] == 3
    assert result["embedding"] == "text embedding"  # it has no layer between
    low, high = result["intervals"]["spearman"]
    assert -100 <= low < high <= 100
    assert "blue and pink" in page.read_text()


def test_bad_input_is_one_line(tmp_path: Path, capsys):
    for rows, says in (
        ([("a", "b", "N", "much")], "row 2 of .* 'much' is not a number"),
        ([("a", "b", "N", 1)], "has 1 pair:"),
        ([("a", "b", "N", 1), ("c", "d", "N", 1)], "has 2 pairs:"),
        ([("a", "b", "N", 1), ("c", "d", "N", "nan")], "row 3 of .* 'nan' is not a score"),
    ):
        file = write(tmp_path / "a.tsv", rows)
        with pytest.raises(SettingsError, match=says):
            read_words(file)
        refused(capsys, "words", f"--data={file}")
    file = write(tmp_path / "a.tsv", ROWS)
    assert "--prompt has one {}" in refused(capsys, "words", f"--data={file}", "--prompt=a")
    told = refused(capsys, "words", f"--data={file}", "--prompt={}\udcff")
    assert "--prompt: must be in UTF-8" in told
    assert [pair.score for pair in read_words(file)] == [row[3] for row in ROWS]
    same = [("red", "blue", "N", score) for score in (1, 2, 3)]
    file = write(tmp_path / "same.tsv", same)
    assert "equally near" in refused(capsys, "words", f"--data={file}")


def test_the_nine_parts_of_simlex(tmp_path: Path, capsys):
    """All, three parts of speech, four quartiles of concreteness, and the strongly associated."""
    import scipy.stats  # 1 s, not for each worker

    pairs = [
        (f"{a} {b}", f"{b}", (7 * i) % 11) for i, (a, b) in enumerate(permutations(COLOURS, 2))
    ]
    kinds, lines = "ANV", ["word1\tword2\tPOS\tSimLex999\tconc(w1)\tconcQ\tSimAssoc333"]
    for i, (first, second, score) in enumerate(pairs):
        lines.append(f"{first}\t{second}\t{kinds[i % 3]}\t{score}\t1.5\t{i % 4 + 1}\t{i % 5 // 4}")
    (tmp_path / "SimLex-999.txt").write_text("\n".join(lines) + "\n")
    result = evaluated(capsys, "words", f"--data={tmp_path / 'SimLex-999.txt'}")
    numbers = np.arange(len(pairs))
    parts = {"adjectives": numbers % 3 == 0, "nouns": numbers % 3 == 1, "verbs": numbers % 3 == 2}
    parts |= {f"concreteness {i + 1}": numbers % 4 == i for i in range(4)}
    parts["hard"] = numbers % 5 == 4
    rows = [WordEmbedder().embed_texts([pair[i] for pair in pairs]) for i in (0, 1)]
    cosines, scores = (rows[0] * rows[1]).sum(axis=1), np.array([pair[2] for pair in pairs])
    assert result["parts"].keys() == parts.keys()
    for name, own in parts.items():
        expected = 100 * scipy.stats.spearmanr(cosines[own], scores[own]).statistic
        assert result["parts"][name]["n"] == own.sum()
        assert result["parts"][name]["spearman"] == pytest.approx(expected, abs=1e-3)


def test_a_part_without_an_order_has_no_number(tmp_path: Path, capsys):
    rows = [*ROWS, *(("red", word, "V", 5) for word in ("red", "blue", "pink"))]
    result = evaluated(capsys, "words", f"--data={write(tmp_path / 'a.tsv', rows)}")
    assert [*result["parts"]] == ["adjectives", "nouns"]
