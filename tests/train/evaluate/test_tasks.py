"""The tasks as a user runs them: what each prints of small files, and what it refuses."""

import base64
import hashlib
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from alignset.train.data.find_shards import find_sets
from alignset.train.errors import SettingsError
from alignset.train.evaluate.classes import find_classes
from alignset.train.evaluate.tasks.segmentation import find_masked, read_mask
from alignset.train.evaluate.tasks.zero_shot import warn_of_names
from alignset.train.presets import TINY
from alignset.train.runs.run_folder import open_run
from alignset.train.runs.trained_images import trained_images
from tests.support.evaluations import WordEmbedder, evaluated, refused
from tests.support.task_files import HEAD, HOSTILE, NAMES, PHOTO, task_files
from tests.support.train_shards import COLOURS, write_tar

WAYS = ("image_to_text", "text_to_image")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return task_files(tmp_path_factory.mktemp("tasks"))


IMAGES, LIST = "--images={}/colours", "--image_list={}/list.txt"
LINES = "--data=en={0}/test.*.en.gz,de={0}/test.*.de.gz"
CXC = ("--data={}/cxc", "--captions={}/cxc/coco.json", "--images={}/cxc/images")
HALVES = ("--data={0}/halves/images", "--masks={0}/halves/masks", "--classes={0}/halves/names")
HALVES += ("--first_value=1", "--prompts=a {{}}")
# What a task prints: by its name, its flags, numbers by their paths, and what is on its page, with
# how many images.
TASKS: dict[str, tuple[str, tuple[str, ...], dict[str, Any], tuple[int, ...] | tuple[Any, ...]]] = {
    "karpathy": (
        "retrieval",
        ("--data={}/splits.json", IMAGES),
        {
            **{"n": 8, "captions": 16, "skipped": 0, "mean_recall": 100},
            "median_rank": {"image_to_text": 1, "text_to_image": 1},
            "intervals/mean_recall": [100, 100],
        },
        (16, "its own: a red thing", " 100 to 100 "),
    ),
    "hostile captions are text": (
        "retrieval",
        ("--data={}/hostile.csv",),
        {"n": 2},
        (4, "&lt;script&gt;"),
    ),
    "equal images are one": (
        "retrieval",
        ("--data={}/equal.csv",),
        {"n": 2, "captions": 3, "skipped": 1, "image_to_text/R@1": 100},
        (4,),
    ),
    "languages are each by themselves": (
        "retrieval",
        ("--data={}/some.csv", IMAGES),
        {
            **{"languages/en/n": 9, "languages/de/n": 4, "languages/de/mean_recall": 100},
            "intervals/languages/de/mean_recall": [100, 100],
        },
        (26, "Found last: en", "its own: ein red Ding"),
    ),
    "one language": (
        "retrieval",
        ("--data=de={}/both.tar",),
        {"language": "de", "captions": 32},
        (16,),
    ),
    "first captions of languages": (
        "retrieval",
        (LINES, LIST, IMAGES, "--captions_per_image=1"),
        {"languages/en/n": 8, "languages/en/captions": None},
        (32,),
    ),
    "folders": (
        "zero_shot",
        ("--data={}/colours",),
        {
            **{"n": 48, "classes": 8, "top1": 100, "top5": 100, "mean_per_class": 100},
            **{"skipped": 0, "confused": [], "chance": {"top1": 12.5, "top5": 62.5}},
            **{"intervals/top1": [100, 100], "model/kind": "test"},
        },
        (24, "Furthest off"),
    ),
    "wrong names make wrong answers": (
        "zero_shot",
        ("--data={}/colours", "--classes={}/swapped", "--prompts={{}} here"),
        {
            "top1": 75,
            "confused": [
                {"class": f"the {own} one", "taken_for": f"the {other} one", "images": 6}
                for own, other in (("green", "red"), ("red", "green"))
            ],
        },
        (36, "the green one, taken for the red one (6)"),
    ),
    "shards": (
        "zero_shot",
        ("--data={}/classes.tar", "--classes={}/names", "--prompts=a {{}}"),
        {"n": 8, "top1": 100, "skipped": 1},
        (16,),
    ),
    "languages of a column": (
        "zero_shot",
        ("--data={}/labels.csv", IMAGES),
        {
            **{"n": 16, "top1": 75, "languages/de/n": 4, "languages/de/classes": 4},
            **{"languages/de/top1": 50, "languages/en/n": 16, "languages/en/top1": 100},
            "intervals/languages/en/top1": [100, 100],
        },
        (34, "Surest: de"),
    ),
    "languages of files": (
        "zero_shot",
        (
            "--data={}/colours",
            "--classes=de={0}/swapped,en={0}/right",
            "--prompts=de=ein {{}}, Ding,en=a {{}}",
        ),
        {"n": 48, "languages/de/top1": 75, "languages/en/top1": 100},
        (60,),
    ),
    # A language is judged on the images of the classes that it has a name for.
    "Babel-ImageNet": (
        "zero_shot",
        ("--data={}/synsets", "--classes={}/babel.json"),
        {
            **{"n": 10, "top1": 50, "languages/de/n": 6, "languages/de/classes": 3},
            **{"languages/de/top1": 100, "languages/xx/n": 4, "languages/xx/top1": 0},
            "languages/de/prompts": 1,  # the name alone
        },
        (24,),
    ),
    # Three of the eight images that would be set aside are tested.
    "a strength chosen on a fifth": (
        "probe",
        ("--data={}/colours", "--test={}/tested"),
        {
            **{"n": 16, "trained_on": 48, "validated_on": 5, "top1": 100, "skipped": 1},
            "also_trained_on": 8,
        },
        (24,),
    ),
    "a strength chosen on other images": (
        "probe",
        ("--data={}/colours", "--test={}/shifted", "--validation={}/held"),
        {"trained_on": 48, "validated_on": 8},
        (24,),
    ),
    "none that is tested is set aside": (
        "probe",
        ("--data={}/colours", "--test={}/apart"),
        {"also_trained_on": 16, "trained_on": 48},
        (24,),
    ),
    "pixels": (
        "segmentation",
        HALVES,
        {"n": 4, "classes": 8, "mean_iou": 100, "iou": dict.fromkeys(NAMES[:4], 100)},
        (6,),
    ),
    "words": ("words", ("--data={}/simlex.txt",), {"n": 59, "embedding": "text embedding"}, (0,)),
    # The other image of its colour is the nearest, and an image isn't its own candidate.
    "crisscrossed": (
        "crisscrossed",
        CXC,
        {
            **{"n": 16, "captions": 32, "retrieval/image_to_image/R@1": 100},
            **{f"retrieval/{way}/R@5": 100 for way in (*WAYS, "text_to_text", "image_to_image")},
            **{"retrieval/image_to_text/n": 16, "retrieval/text_to_image/n": 32},
            **{"retrieval/text_to_text/n": 32, "retrieval/image_to_image/n": 16},
            "retrieval/image_to_image/chance/R@1": round(100 / 15, 3),
            "intervals/retrieval/text_to_text/R@5": [100, 100],
            **{f"correlation/{kind}/n": 32 for kind in ("sits", "sts", "sis")},
        },
        (0,),
    ),
}


def filled(flags: tuple[str, ...], root: Path) -> list[str]:
    return [flag.format(root) for flag in flags]


def at(result: Any, path: str) -> Any:
    for name in path.split("/"):
        result = result.get(name)
    return result


@pytest.mark.parametrize("name", TASKS)
def test_what_a_task_prints(name: str, root: Path, tmp_path: Path, capsys):
    task, flags, expected, (images, *texts) = TASKS[name]
    page = tmp_path / "page.html"
    flags = (*filled(flags, root), f"--page={page}", f"--cache={tmp_path}/cache")
    result = evaluated(capsys, task, *flags)
    assert {path: at(result, path) for path in expected} == expected
    assert {"torch", "python"} <= result["versions"].keys()
    html = page.read_text()
    names = re.findall("<tr><th>(.*?)</th>", html)
    assert "measured" in names
    assert [name for name in names if "_" in name] == []
    assert html.count("<img ") == images
    assert [text for text in texts if text not in html] == []
    assert [text for text in (HOSTILE, "x" * 301) if text in html] == []
    assert "http" not in html.replace("http-equiv", "")  # it needs nothing beside itself
    if name in ("folders", "languages of a column"):  # each image is shown with its own class
        pictures = re.findall(r'alt="(red|green|yellow)" src="[^"]*,([^"]*)"', html)
        assert len(pictures) > 2
        for colour, picture in pictures:
            assert colour_of(picture) == pytest.approx(COLOURS[colour], abs=12), colour
    if task in ("retrieval", "zero_shot", "probe"):  # the same by the vectors that are kept
        assert evaluated(capsys, task, *flags) == result


def colour_of(picture: str) -> tuple[int, ...]:
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    pixel = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(pixel, tuple)
    return pixel


def test_several_languages_in_each_form(root: Path, capsys):
    """The same images are counted once."""
    forms = [("--data={}/both.csv", IMAGES), (LINES, LIST, IMAGES), ("--data={}/both.tar",)]
    forms += [("--data=en={0}/en.csv,de={0}/de.csv", IMAGES), ("--data={}/captions.jsonl",)]
    expected, *others = (evaluated(capsys, "retrieval", *filled(form, root)) for form in forms)
    means = {code: own["mean_recall"] for code, own in expected["languages"].items()}
    assert means["de"] < 100 == means["en"]
    assert expected["mean_recall"] == pytest.approx((means["de"] + 100) / 2, abs=1e-3)
    low, high = expected["intervals"]["mean_recall"]
    assert low < expected["mean_recall"] < high <= 100
    for other in others:
        assert (other["n"], other["mean_recall"]) == (8, expected["mean_recall"])
        for code in means:
            for way in WAYS:
                assert other["languages"][code][way] == expected["languages"][code][way]


def test_words_are_scipys_in_all_and_in_the_nine_parts_of_simlex(root: Path, capsys):
    import scipy.stats  # 1 s, not for each worker

    result = evaluated(capsys, "words", f"--data={root}/simlex.txt")
    rows = [line.split("\t") for line in (root / "simlex.txt").read_text().splitlines()[1:]]
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


def test_judgements_correlate_within_their_intervals_and_shifted_masks_do_not_fit(root, capsys):
    result = evaluated(capsys, "crisscrossed", *filled(CXC, root))
    for kind, own in result["correlation"].items():
        low, high = result["intervals"]["correlation"][kind]["spearman"]
        assert low <= own["spearman"] <= high
        assert own["spearman"] > 60
    # Shifted by one, each pixel is told as its neighbour's colour.
    flags = (*filled(HALVES, root), "--first_value=2")
    assert evaluated(capsys, "segmentation", *flags)["mean_iou"] < 20


@pytest.mark.parametrize("flags", [("zero_shot", "--data={}/colours"), ("segmentation", *HALVES)])
def test_threads_that_prepare_images_start_no_others(flags, root: Path, capsys):
    before = torch.get_num_threads()
    WordEmbedder.torch_threads.clear()
    try:
        torch.set_num_threads(3)
        evaluated(capsys, *filled(flags, root), f"--cache={root}/threads")
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 3
        assert (torch.get_num_threads(), WordEmbedder.torch_threads) == (3, {1})
    finally:
        torch.set_num_threads(before)


def small_run(run: Path, images: dict[str, bytes], **settings: str) -> Path:
    """A run's config and metrics; its shard and the table beside it are in `run`.set."""
    folder = run.with_suffix(".set")
    folder.mkdir()
    files = {}
    for name, image in images.items():
        files |= {f"{name}.png": image, f"{name}.txt": b"a"}
    write_tar(folder / "00000.tar", files)
    hashes = [hashlib.sha256(image).hexdigest() for image in images.values()]
    pq.write_table(pa.table({"key": [*images], "sha256": hashes}), folder / "00000.parquet")
    open_run(run, replace(TINY, **settings), find_sets(str(folder)))
    rows = [{"step": step, "loss": 9 / step, "validation/R1": step} for step in range(10, 2000, 10)]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return run


@pytest.mark.parametrize(
    ("task", "flags", "path", "less"),
    [
        ("zero_shot", ("--data={}/colours",), "top1", -25),
        ("zero_shot", ("--data={}/labels.csv", IMAGES), "languages/de/top1", -50),
        ("probe", ("--data={}/colours", "--test={}/tested"), "mean_per_class", 0),
        ("retrieval", ("--data={}/splits.json", IMAGES), "text_to_image/R@1", -25),
        ("retrieval", ("--data={}/both.csv", IMAGES), "mean_recall", None),
        ("words", ("--data={}/simlex.txt",), "", None),
    ],
)
def test_models_are_compared_on_the_same_images(task, flags, path, less, root, tmp_path, capsys):
    reds = {f"{i}": (root / f"colours/red/{i}.png").read_bytes() for i in range(2)}
    run = small_run(tmp_path / "confused<b>", reds)
    flags = (*filled(flags, root), f"--cache={tmp_path}/cache")
    alone = evaluated(capsys, task, *flags)
    page = f"--page={tmp_path}/page.html"
    both = evaluated(capsys, task, f"--model={run}", "--model=words", *flags, page)
    assert both["task"] == task
    assert [both["results"][0], both["results"][2]] == [alone, alone]
    confused, html = both["results"][1], (tmp_path / "page.html").read_text()
    assert confused["model"]["name"] == "confused"
    # The curves of the run alone: its loss falls and its R@1 rises.
    assert re.findall(r'points="63\.2,(\d+)', html) == ["10", "210"]
    assert re.findall(r'(\d+)\.0 "/>', html) == ["210", "10"]
    if not path:  # of words there are no images
        assert both["differences"] == []
        return
    trained_on = {"probe": 8, "zero_shot": 2, "retrieval": 1}[task]
    assert confused["also_trained_on"] == trained_on
    more, same = both["differences"]
    assert at(more, path) == pytest.approx(at(confused, path) - at(alone, path), abs=2e-3)
    assert less in (None, at(more, path))
    low, high = at(more["intervals"], path)
    assert low <= at(more, path) <= high
    assert (at(same, path), at(same["intervals"], path)) == (0, [0, 0])
    assert f"<td>{at(more, path):+g}</td>" in html
    assert html.count(" less A") == 2


def test_a_run_of_others_names_no_command_and_no_file_elsewhere(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = b"an image"
    run, name = small_run(tmp_path / "run", {"0": image}), hashlib.sha256(image).hexdigest()
    command = "pipe:touch ran; cat run.set"
    (tmp_path / command).mkdir()
    (tmp_path / command / "00000.tar").write_bytes(b"")
    config = json.loads((run / "config.json").read_text())
    ((_, digest),) = config["sets"][0]["shards"]
    for folder, shard, identity in (
        (command, "00000.tar", "command"),
        ("", f"{command}/00000.tar", "command"),
        (str(tmp_path), "run.set/00000.tar", digest),
        (str(tmp_path / "run"), str(tmp_path / "run.set/00000.tar"), digest),
    ):
        config |= {"folders": [folder], "sets": [{"shards": [[shard, identity]]}]}
        (run / "config.json").write_text(json.dumps(config))
        assert trained_images("run", {name}) is None
    assert not (tmp_path / "ran").exists()


def test_what_a_run_was_trained_on_is_told_where_it_is_known(root: Path, tmp_path: Path):
    red, blue, other = ((root / f"colours/{n}/0.png").read_bytes() for n in ("red", "blue", "pink"))
    names = [hashlib.sha256(image).hexdigest() for image in (red, blue, other)]
    first = small_run(tmp_path / "first", {"0": red})
    second = small_run(tmp_path / "second", {"0": blue}, start_from=str(first))
    (second / "model").mkdir()
    assert trained_images(str(first), {*names}) == {names[0]}
    assert trained_images(str(second / "model"), {*names}) == {*names[:2]}
    assert trained_images("open_clip:ViT-B-32", {*names}) is None
    table, shard, config = (
        *(tmp_path / f"first.set/00000.{kind}" for kind in ("parquet", "tar")),
        first / "config.json",
    )
    resized = io.BytesIO()
    pq.write_table(pa.table({"key": ["0"], "sha256": names[1:2]}), resized)
    odd = io.BytesIO()
    pq.write_table(pa.table({"sha256": [[1, 2]]}), odd)
    for path, content in (
        *((table, data) for data in (resized.getvalue(), odd.getvalue(), b"no table")),
        (shard, b"another"),
        *((config, data) for data in (b'{"sets": 3}', b'{"sets": [1], "settings": []}', b"\xff")),
        (config, config.read_bytes().replace(b'"folders"', b'"none"')),  # as of earlier versions
    ):
        before = path.read_bytes()
        path.write_bytes(content)
        assert trained_images(str(first), {*names}) is None
        assert trained_images(str(second), {*names}) is None
        path.write_bytes(before)
    shard.rename(tmp_path / "moved.tar")
    assert trained_images(str(second), {*names}) is None


# What a file is changed to before the task is run: its name, what is replaced by what.
SIMLEX, NEXT = ("simlex.txt", "\t5\t1"), "image1,image2,score\n"
REFUSED = [
    ("retrieval", ("--data={}/equal.csv", IMAGES), None, "4 of the images"),
    ("retrieval", ("--data={}/none.csv",), None, "no pair with a readable image"),
    ("retrieval", (LINES, "--image_list={}/short.txt", IMAGES), None, "have not as many lines"),
    ("retrieval", ("--data=en={}/none.en", LIST, IMAGES), None, "can't be read as lines"),
    ("retrieval", ("--data={}/00.jpg", LIST, IMAGES), None, "can't be read as lines in UTF-8"),
    ("retrieval", ("--data={}/wrong.jsonl",), None, "line 1 of"),
    ("retrieval", ("--data=de={0}/de.csv,de={0}/en.csv",), None, "names a language twice"),
    ("zero_shot", ("--data={}/classes.tar", "--classes={}/two"), None, "'2' of --data is not a cl"),
    ("zero_shot", ("--data={}/colours", "--page={}/no/page.html"), None, "--page="),
    ("zero_shot", ("--data={}/colours", "--page={}"), None, "--page="),
    ("zero_shot", ("--data={}/colours", "--batch_size=0"), None, "batch_size must be at least 1"),
    ("zero_shot", ("--data={}/colours", "--cache=/proc/nothing"), None, "--cache"),
    ("zero_shot", ("--data={}/colours", "--colour=red"), None, "--colour"),
    ("zero_shot", (), None, "--data"),
    ("zero_shots", (), None, "there is no task 'zero_shots'; did you mean zero_shot?"),
    (
        "zero_shot",
        ("--data={}/colours", "--classes=de={0}/swapped,en={0}/right", "--prompts=de={{}}"),
        None,
        "--prompts has nothing for en: add en=FILE",
    ),
    (
        "zero_shot",
        ("--data={}/synsets", "--classes=fr={}/babel.json"),
        None,
        "has no names in 'fr': it has de, xx",
    ),
    *(
        ("zero_shot", ("--data={}/synsets", f"--classes={{}}/hostile{i}.json"), None, "as Babel-")
        for i in range(4)
    ),
    (
        "probe",
        ("--data={}/colours", "--test={}/shifted", "--validation={}/others"),
        None,
        "--validation shares 16 images with --test",
    ),
    ("probe", ("--data={}/few", "--test={}/many"), None, "fewer than 5 images of each class"),
    ("probe", ("--data={}/many", "--test={}/colours"), None, "all images of --test are in --data"),
    ("words", ("--data={}/simlex.txt",), (*SIMLEX, "\tmuch\t1"), "row 9 of .*'much' is not a num"),
    ("words", ("--data={}/simlex.txt",), (*SIMLEX, "\tnan\t1"), "row 9 of .*'nan' is not a num"),
    (
        "words",
        ("--data={}/simlex.txt",),
        ("simlex.txt", "", f"{HEAD}\na\tb\tN\t1\t1\t1\t0\n"),
        "two pairs",
    ),
    (
        "words",
        ("--data={}/simlex.txt",),
        ("simlex.txt", "", "word1,word2,score\nred,blue,1\nred,blue,2\n"),
        "equally",
    ),
    ("words", ("--data={}/simlex.txt", "--prompt=a"), None, "--prompt has one {}"),
    ("words", ("--data={}/simlex.txt", "--prompt={{}}\udcff"), None, "--prompt: must be in UTF-8"),
    ("crisscrossed", CXC, ("cxc/sis_test.csv", PHOTO.format(3), "x.jpg"), "'x.jpg' is not in"),
    ("crisscrossed", CXC, ("cxc/sis_test.csv", ",1.0", ",low"), "'low' is not a number"),
    ("crisscrossed", CXC, ("cxc/sis_test.csv", "", NEXT), "two pairs or more"),
    ("crisscrossed", CXC, ("cxc/sis_test.csv", "", "a,b\n"), "no column 'image1'"),
    ("crisscrossed", CXC, (f"cxc/images/val2014/{PHOTO.format(2)}", "", "no"), "be decoded: 1"),
    ("crisscrossed", (*CXC, "--split=val"), None, "no file .*sits_val.csv"),
    ("segmentation", (*HALVES, "--first_value=100"), None, "no pixel of an image is of a class"),
    ("segmentation", (*HALVES, "--data={}/none"), None, "there is no folder .*one with --data"),
    ("segmentation", (*HALVES, "--masks={}/halves/masks/below"), None, r"below has no 1\.png"),
    ("segmentation", HALVES, ("halves/masks/1.png", "", "no"), r"replace the mask .*1\.png"),
]


@pytest.mark.parametrize(("task", "flags", "change", "says"), REFUSED)
def test_bad_input_is_one_line(task, flags, change, says, root: Path, capsys):
    if change:
        name, old, new = change
        path = root / name
        before = path.read_bytes()
        path.write_text(before.decode().replace(old, new) if old else new)
    try:
        error = refused(capsys, task, *filled(flags, root))
    finally:
        if change:
            path.write_bytes(before)
    assert re.search(says, error), error


def test_what_is_not_finite_is_no_result(root: Path, capsys, monkeypatch):
    monkeypatch.setattr("alignset.train.evaluate.tasks.words.spearman", lambda *_: np.nan)
    assert "is not defined" in refused(capsys, "words", f"--data={root}/simlex.txt")


def test_classes_that_are_called_by_numbers_are_warned_of(capsys):
    for names, warned in (
        (["0001", "0002", "red"], "2 of 3 classes have a number for a name, as '0001'"),
        (["3f2a", "00c1", "7"], "3 of 3 classes"),
        (["n99999991", "n99999992"], "2 of 2 classes"),
        (["face", "bee", "7"], ""),
        (["747", "a320"], "2 of 2"),
        (["747 jet", "a320 jet"], ""),
        (["красный", "红"], ""),
    ):
        warn_of_names(find_classes("", names))
        printed = capsys.readouterr().err
        assert warned in printed
        assert ("for a name" in printed) == bool(warned)


def test_masks_are_numbers_in_files_called_like_the_images(root: Path, tmp_path: Path):
    found = find_masked(root / "halves/images", root / "halves/masks")
    assert found[-1] == (root / "halves/images/below/0.png", root / "halves/masks/below/0.png")
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
