"""Words, Crisscrossed Captions and segmentation as a user runs them; their scores against scipy's,
torch's and plain loops."""

import json
import re
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alignset.train.errors import SettingsError
from alignset.train.evaluate.correlation import spearman, spearman_interval
from alignset.train.evaluate.tasks import segmentation
from alignset.train.evaluate.tasks.crisscrossed import bootstrap_correlation
from alignset.train.evaluate.tasks.segmentation import (
    find_masked,
    mean_iou,
    overlap,
    read_mask,
    tell_pixels,
)
from tests.support.evaluations import evaluated, refused
from tests.support.train_shards import COLOURS, encoded
from tests.support.word_embedder import WordEmbedder

RNG = np.random.default_rng(12)
NAMES = list(COLOURS)
HEAD = "word1\tword2\tPOS\tSimLex999\tconc(w1)\tconcQ\tSimAssoc333"
PHOTO = "COCO_val2014_{:012d}.jpg"
SENTENCE = "COCO_val2014:sentid:{}"


def words(folder: Path) -> list[str]:
    """SimLex's form: all pairs of colours; POS, quartile and association by their number. The last
    pairs, "X", all have one score."""
    lines = [HEAD]
    for i, (a, b) in enumerate(permutations(COLOURS, 2)):
        lines.append(f"{a} {b}\t{b}\t{'ANV'[i % 3]}\t{7 * i % 11}\t1\t{i % 4 + 1}\t{i % 5 // 4}")
    lines += [f"red\t{word}\tX\t5\t1\t1\t0" for word in ("red", "blue", "pink")]
    (folder / "SimLex-999.txt").write_text("\n".join(lines) + "\n")
    return [f"--data={folder / 'SimLex-999.txt'}"]


def crisscrossed(folder: Path) -> list[str]:
    """16 images, two of each colour, with two captions each, and judgements: of the same colour 5,
    of the colour before 1."""
    (folder / "images" / "val2014").mkdir(parents=True)
    entries: list[dict] = []
    files: dict[str, list] = {"sits": ["caption,image"], "sts": ["caption1,caption2"]}
    files["sis"] = ["image1,image2"]
    for i in range(16):
        colour = tuple(max(0, value - i // 8) for value in COLOURS[NAMES[i % 8]])
        picture = encoded(Image.new("RGB", (20, 20), colour))
        (folder / "images" / "val2014" / PHOTO.format(i)).write_bytes(picture)
        texts = f"a {NAMES[i % 8]} picture {i}", f"all {NAMES[i % 8]} {i}"
        sentences = [{"raw": text, "sentid": 2 * i + n} for n, text in enumerate(texts)]
        entry = {"filename": PHOTO.format(i), "filepath": "val2014", "split": "test"}
        entries.append({**entry, "sentences": sentences})
        for judged, score in (((i + 8) % 16, 5 - i / 99), ((i + 7) % 16, 1 + i / 99)):
            own, other = ((SENTENCE.format(2 * n), PHOTO.format(n)) for n in (i, judged))
            files["sits"].append(f"{own[0]},{other[1]},{score}")
            files["sts"].append(f"{own[0]},{other[0]},{score}")
            files["sis"].append(f"{own[1]},{other[1]},{score}")
    (folder / "coco.json").write_text(json.dumps({"images": entries}))
    for kind, (columns, *lines) in files.items():
        text = "\n".join([f"{columns},agg_score", *lines]) + "\n"
        (folder / f"{kind}_test.csv").write_text(text)
    return [f"--data={folder}", f"--captions={folder}/coco.json", f"--images={folder}/images"]


def halves(folder: Path) -> list[str]:
    """Six images of two colours each, left and right, with masks from 1 on; one has no class."""
    for part in ("images", "masks"):
        (folder / part / "below").mkdir(parents=True)
    for left in range(7):
        picture, mask = np.zeros((32, 48, 3), np.uint8), np.zeros((32, 48), np.uint8)
        picture[:, :24], picture[:, 24:] = (COLOURS[NAMES[left + side]] for side in (0, 1))
        mask[4:, :24], mask[4:, 24:] = (left + 1, left + 2) if left < 6 else (0, 0)
        name = "below/0.png" if not left else f"{left}.png"
        Image.fromarray(picture).save(folder / "images" / name)
        Image.fromarray(mask).save(folder / "masks" / name)
    (folder / "names").write_text("\n".join(NAMES))
    parts = {"data": "images", "masks": "masks", "classes": "names"}
    return [*(f"--{flag}={folder / part}" for flag, part in parts.items()), "--first_value=1"]


def test_words_are_scipys_in_all_and_in_the_nine_parts_of_simlex(tmp_path: Path, capsys):
    import scipy.stats  # 1 s, not for each worker

    flags, page = words(tmp_path), tmp_path / "page.html"
    result = evaluated(capsys, "words", *flags, f"--page={page}")
    rows = [line.split("\t") for line in Path(flags[0][7:]).read_text().splitlines()[1:]]
    first, second = (WordEmbedder().embed_texts([row[i] for row in rows]) for i in (0, 1))
    cosines, scores = (first * second).sum(axis=1), np.array([float(row[3]) for row in rows])
    parts = {"adjectives": (2, "A"), "nouns": (2, "N"), "verbs": (2, "V"), "hard": (6, "1")}
    parts |= {f"concreteness {i}": (5, str(i)) for i in (1, 2, 3, 4)}
    assert result["parts"].keys() == parts.keys()  # not the part whose scores are equal
    results = {"all": {"n": result["n"], "spearman": result["spearman"]}, **result["parts"]}
    for name, (column, value) in (parts | {"all": (4, "1")}).items():
        own = np.array([row[column] == value for row in rows])
        expected = 100 * scipy.stats.spearmanr(cosines[own], scores[own]).statistic
        assert results[name]["n"] == own.sum()
        assert results[name]["spearman"] == pytest.approx(expected, abs=1e-3)
    low, high = result["intervals"]["spearman"]
    assert low < result["spearman"] < high
    assert result["embedding"] == "text embedding"  # it has no layer between
    assert "red and pink" in page.read_text()


def test_all_four_ways_and_three_correlations(tmp_path: Path, capsys):
    result = evaluated(capsys, "crisscrossed", *crisscrossed(tmp_path))
    assert (result["n"], result["captions"]) == (16, 32)
    ways = result["retrieval"]
    counts = {"image_to_text": 16, "text_to_image": 32, "text_to_text": 32, "image_to_image": 16}
    assert {way: of["n"] for way, of in ways.items()} == counts
    assert {of["R@5"] for of in ways.values()} == {100}
    # The other image of its colour is the nearest, and an image isn't its own candidate.
    assert ways["image_to_image"]["R@1"] == 100
    assert ways["image_to_image"]["chance"]["R@1"] == pytest.approx(100 / 15, abs=1e-3)
    assert result["correlation"].keys() == {"sits", "sts", "sis"}
    for kind, of in result["correlation"].items():
        low, high = result["intervals"]["correlation"][kind]["spearman"]
        assert of["n"] == 32
        assert low <= of["spearman"] <= high
        assert of["spearman"] > 60
    assert result["intervals"]["retrieval"]["text_to_text"]["R@5"] == [100, 100]


def test_coloured_halves(tmp_path: Path, capsys):
    flags, page = [*halves(tmp_path), "--prompts=a {}"], tmp_path / "page.html"
    result = evaluated(capsys, "segmentation", *flags, f"--page={page}")
    assert (result["n"], result["classes"], result["mean_iou"]) == (7, 8, 100)
    assert result["iou"].keys() == set(NAMES[:7])  # the last one is nowhere
    assert page.read_text().count("<img ") == 12
    # Shifted by one, each pixel is told as its neighbour's colour.
    assert evaluated(capsys, "segmentation", *flags, "--first_value=2")["mean_iou"] < 20


def change(name: str, old: str, new: str):
    def changed(folder: Path) -> None:
        path = folder / name
        path.write_text(path.read_text().replace(old, new) if old else new)

    return changed


REFUSED = [
    (words, change("SimLex-999.txt", "\t5\t1", "\tmuch\t1"), (), "row 9 of .*'much' is not a num"),
    (words, change("SimLex-999.txt", "\t5\t1", "\tnan\t1"), (), "row 9 of .*'nan' is not a num"),
    (
        words,
        change("SimLex-999.txt", "", f"{HEAD}\na\tb\tN\t1\t1\t1\t0\n"),
        (),
        "two pairs",
    ),
    (
        words,
        change("SimLex-999.txt", "", "word1,word2,score\nred,blue,1\nred,blue,2\n"),
        (),
        "equally",
    ),
    (words, None, ["--prompt=a"], "--prompt has one {}"),
    (words, None, ["--prompt={}\udcff"], "--prompt: must be in UTF-8"),
    (
        crisscrossed,
        change("sis_test.csv", PHOTO.format(3), "x.jpg"),
        (),
        "'x.jpg' is not in",
    ),
    (crisscrossed, change("sis_test.csv", ",1.0", ",low"), (), "'low' is not a number"),
    (crisscrossed, change("sis_test.csv", "", "image1,image2,score\n"), (), "two pairs or more"),
    (crisscrossed, change("sis_test.csv", "", "a,b\n"), (), "no column 'image1'"),
    (crisscrossed, change(f"images/val2014/{PHOTO.format(2)}", "", "no"), (), "be decoded: 1"),
    (crisscrossed, lambda folder: (folder / "sts_test.csv").unlink(), (), "no file .*sts_test.csv"),
    (halves, None, ["--first_value=100"], "no pixel of an image is of a class"),
    (halves, None, ["--data={}/masks/empty"], "there is no folder .*name one with --data"),
    (halves, lambda folder: (folder / "masks" / "1.png").unlink(), (), r"masks has no 1\.png"),
    (halves, change("masks/1.png", "", "no image"), (), r"replace the mask .*1\.png"),
]


@pytest.mark.parametrize(("make", "change", "flags", "says"), REFUSED)
def test_bad_input_is_one_line(make, change, flags, says, tmp_path: Path, capsys):
    given = make(tmp_path)
    if change:
        change(tmp_path)
    task = "segmentation" if make is halves else make.__name__
    given += [flag.replace("{}/", f"{tmp_path}/") for flag in flags]
    error = refused(capsys, task, *given)
    assert re.search(says, error), error


def test_what_is_not_finite_is_no_result(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr("alignset.train.evaluate.tasks.words.spearman", lambda *_: np.nan)
    page = tmp_path / "page.html"
    assert "is not defined" in refused(capsys, "words", *words(tmp_path), f"--page={page}")
    assert not page.exists()


def test_masks_are_numbers_in_files_called_like_the_images(tmp_path: Path):
    halves(tmp_path)
    found = find_masked(tmp_path / "images", tmp_path / "masks")
    assert found[-1] == (tmp_path / "images/below/0.png", tmp_path / "masks/below/0.png")
    image = Image.new("P", (2, 1), 3)
    image.putpalette([0, 0, 0, 9, 9, 9, 1, 2, 3, 255, 0, 0])
    image.save(tmp_path / "p.png")
    assert read_mask(tmp_path / "p.png").tolist() == [[3, 3]]
    Image.fromarray(np.array([[700]], np.uint16)).save(tmp_path / "w.png")
    assert read_mask(tmp_path / "w.png").tolist() == [[700]]
    Image.effect_noise((90, 90), 90).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:500])
    Image.new("L", (9, 9)).save(tmp_path / "j.jpg")
    Image.new("RGB", (2, 2)).save(tmp_path / "colours.png")
    Image.new("F", (2, 2)).save(tmp_path / "f.tiff")
    for name, says in (
        *((name, "replace the mask .*, which can't be read") for name in ("cut.png", "j.jpg")),
        *((name, "has colours") for name in ("colours.png", "f.tiff")),
    ):
        with pytest.raises(SettingsError, match=says):
            read_mask(tmp_path / name)


@pytest.mark.numeric
def test_scores_are_upsampled_as_interpolate_does(monkeypatch: pytest.MonkeyPatch):
    scores = RNG.normal(size=(9, 9, 5)).astype(np.float32)
    for size in ((40, 30), (3, 5), (1, 7), (9, 9)):
        channels = torch.from_numpy(scores).permute(2, 0, 1)[None]
        upsampled = torch.nn.functional.interpolate(channels, size=size, mode="bilinear")[0]
        expected = upsampled.argmax(dim=0).numpy()
        for at_once in (1 << 24, 1):  # then a row at a time
            monkeypatch.setattr(segmentation, "AT_ONCE", at_once)
            np.testing.assert_array_equal(tell_pixels(scores, *size), expected)


def test_overlaps_are_counted_where_the_truth_is_a_class():
    answers, truth = RNG.integers(0, 4, (2, 12, 10))
    truth[:3] = -1
    truth[3] = 255
    counts = np.isin(truth, range(4))
    for c, (both, either) in enumerate(zip(*overlap(answers, truth, 4), strict=True)):
        assert both == ((answers == c) & (truth == c) & counts).sum()
        assert either == (((answers == c) | (truth == c)) & counts).sum()
    sums = np.array([[2.0, 0.0, 0.0, 3.0], [4.0, 5.0, 0.0, 3.0]])  # one that does not occur
    assert mean_iou(sums) == pytest.approx((0.5 + 0 + 1) / 3)
    np.testing.assert_allclose(mean_iou(np.stack([sums, 0 * sums])), [0.5, np.nan])


@pytest.mark.numeric
def test_correlations_and_their_intervals():
    import scipy.stats  # 1 s, not for each worker

    for kinds in (3, 40, 10_000):
        for a, b in RNG.integers(0, kinds, (5, 2, 60)).astype(float):
            assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert np.isnan(spearman(np.ones(5), np.arange(5.0)))
    a = RNG.normal(size=400)
    b = a + RNG.normal(size=400)
    (low, high), (few_low, few_high) = (spearman_interval(a[:n], b[:n]) for n in (400, 40))
    assert low < spearman(a, b) < high
    assert few_high - few_low > 2 * (high - low)


@pytest.mark.numeric
def test_bootstrap_correlation_takes_one_item_of_half_of_the_queries():
    queries, judged = np.repeat(np.arange(100), 4), RNG.random(400)
    equal = bootstrap_correlation(queries, judged, judged * 3 - 1)
    assert equal == {"spearman": 100, "deviation": 0, "intervals": {"spearman": [100, 100]}}
    noisy = judged + RNG.normal(size=400) / 2
    found = bootstrap_correlation(queries, judged, noisy)
    low, high = found["intervals"]["spearman"]
    assert low < found["spearman"] < high
    assert found["spearman"] == pytest.approx(100 * spearman(judged, noisy), abs=5)
    assert found["deviation"] == pytest.approx(100 / np.sqrt(50), rel=0.4)  # of 50 pairs
    # Within a query all agree, between queries nothing does: no query is asked twice.
    alike, others = (np.repeat(RNG.random(100), 4) for _ in range(2))
    assert abs(bootstrap_correlation(queries, alike, others)["spearman"]) < 30
