"""The tasks as a user runs them: what each prints of small files, and what it refuses."""

import base64
import gzip
import io
import json
import re
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alignset.train.errors import SettingsError
from alignset.train.evaluate.classes import find_classes, imagenet_names
from alignset.train.evaluate.tasks.segmentation import find_masked, read_mask
from alignset.train.evaluate.tasks.zero_shot import warn_of_names
from tests.support.evaluations import WordEmbedder, colour_folders, evaluated, refused
from tests.support.train_shards import COLOURS, encoded, write_tar

NAMES = list(COLOURS)
SWAPPED = dict(zip(NAMES, NAMES, strict=True)) | {"red": "green", "green": "red"}
HEAD = "word1\tword2\tPOS\tSimLex999\tconc(w1)\tconcQ\tSimAssoc333"
PHOTO = "COCO_val2014_{:012d}.jpg"
SENTENCE = "COCO_val2014:sentid:{}"
WAYS = ("image_to_text", "text_to_image")


def plain(colour: object, size: tuple[int, int] = (9, 9)) -> bytes:
    return encoded(Image.new("RGB", size, colour))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Files of every task."""
    root = tmp_path_factory.mktemp("tasks")
    colour_folders(root / "colours", each=6)
    captions(root)
    languages(root)
    classes(root)
    learned(root)
    words(root)
    crisscrossed(root / "cxc")
    halves(root / "halves")
    return root


def captions(root: Path) -> None:
    """Karpathy's splits; equal images, and one that is none."""
    entries = [
        {
            "filename": "0.png",
            "filepath": name,
            "split": "test",
            "sentences": [{"raw": f"a {name} thing"}, {"raw": f"{name} {i}"}],
        }
        for i, name in enumerate(NAMES)
    ]
    (root / "splits.json").write_text(json.dumps({"images": entries}))
    for name, colour in (("a", "red"), ("b", "red"), ("c", "blue")):
        (root / f"{name}.png").write_bytes(plain(COLOURS[colour]))
    (root / "d.png").write_bytes(b"no image")
    text = "image,caption\na.png,red one\nb.png,red two\nc.png,blue\nd.png,green\n"
    (root / "equal.csv").write_text(text)
    (root / "none.csv").write_text("image,caption\nd.png,a\n")


def languages(root: Path) -> None:
    """Captions in two languages. The same ones in a table, in one for each language, in shards, in
    lines as Multi30K's and XTD10's, and in XM3600's JSON lines."""
    rows = [f"{name}/0.png,a {name} thing,en\n" for name in NAMES]
    rows += [f"{name}/1.png,ein {name} Ding,de\n" for name in NAMES[:4]] + ["red/1.png,green,en\n"]
    (root / "some.csv").write_text("image,caption,language\n" + "".join(rows))
    names = [f"{name}/0.png" for name in NAMES]
    texts = {"en": ("a {} thing", "{}"), "de": ("ein {} Ding", "rot {}")}
    said = {c: [[text.format(n) for n in NAMES] for text in own] for c, own in texts.items()}
    said["de"][0][2] = "green"  # which is wrong
    shard, table, records = {}, {"en": [], "de": []}, []
    for code, files in said.items():
        for number, lines in enumerate(files):
            packed = gzip.compress("".join(f"{line}\n" for line in lines).encode())
            (root / f"test.{number}.{code}.gz").write_bytes(packed)
            for name, text in zip(names, lines, strict=True):
                table[code].append(f"{name},{text},{code}\n")
                key = f"{len(shard):03}"
                shard[f"{key}.png"] = (root / "colours" / name).read_bytes()
                shard[f"{key}.txt"] = text.encode()
                shard[f"{key}.json"] = json.dumps({"language": code}).encode()
        (root / f"{code}.csv").write_text("image,caption,\n" + "".join(table[code]))
    both = "image,caption,language\n" + "".join(table["en"] + table["de"])
    (root / "both.csv").write_text(both)
    write_tar(root / "both.tar", shard)
    (root / "list.txt").write_text("".join(f"{name}#0\n" for name in names))
    (root / "short.txt").write_text("red/0.png\n")
    for i, name in enumerate(names):
        (root / f"0{i}.jpg").write_bytes((root / "colours" / name).read_bytes())
        own = {code: {"caption": [lines[i] for lines in files]} for code, files in said.items()}
        records.append(json.dumps({"image/key": f"0{i}", "image/locale": "en", **own}))
    (root / "captions.jsonl").write_text("\n".join(records))
    wrong = '{"image/key": "00", "en": {"caption": "a"}, "de": {"captions": []}}'
    (root / "wrong.jsonl").write_text(wrong)


def classes(root: Path) -> None:
    """Names of classes, wrong ones, several languages', and images in tables and shards."""
    for file, names in (("swapped", SWAPPED), ("right", dict(zip(NAMES, NAMES, strict=True)))):
        (root / file).write_text("".join(f"{label}\tthe {n} one\n" for label, n in names.items()))
    (root / "names").write_text("\n".join(NAMES))
    (root / "two").write_text("red\ngreen\n")
    (root / "empty" / "a").mkdir(parents=True)
    rows = [f"{name}/{i}.png,{name},en" for name in NAMES for i in range(2)]
    rows += [f"{name}/0.png,{name},de" for name in ("red", "green")]
    rows += ["blue/0.png,white,de", "white/0.png,blue,de"]
    (root / "labels.csv").write_text("\n".join(["image,label,language", *rows]))
    files = {"bad.png": b"no image", "bad.cls": b"1"}
    for number, name in enumerate(NAMES):
        files[f"{name}.png"] = (root / "colours" / name / "0.png").read_bytes()
        files[f"{name}.cls"] = str(number).encode()
    write_tar(root / "classes.tar", files)
    colour_folders(root / "synsets", each=2)
    for name, synset in zip(NAMES, imagenet_names(), strict=False):
        (root / "synsets" / name).rename(root / "synsets" / synset)
    babel = {"DE": [[0, 1, 4], [NAMES[0], NAMES[1], NAMES[4]]], "XX": [[2, 3], NAMES[3:1:-1]]}
    (root / "babel.json").write_text(json.dumps(babel))
    hostile = ["[]", '{"DE": [[0, 1], ["a"]]}', '{"DE": [[0, 1000], ["a", "b"]]}', "{"]
    for i, text in enumerate(hostile):
        (root / f"hostile{i}.json").write_text(text)


def learned(root: Path) -> None:
    """Images to learn from, and to test, by the numbers of `colour_folders`."""
    for name, numbers in {
        "tested": (5, 7),
        "many": (0, 7),
        "held": (0, 1),
        "shifted": (1, 8),
        "others": (6, 8),
        "few": (0, 2),
        "apart": (7, 9),
    }.items():
        colour_folders(root / name, each=numbers[1] - numbers[0], first=numbers[0])
    (root / "tested" / "red" / "8.png").write_bytes(b"no image")
    for path in [*(root / "colours").rglob("[01].png")]:  # which must not be set aside
        (root / "apart" / path.parent.name / f"of-data-{path.name}").write_bytes(path.read_bytes())


def words(root: Path) -> None:
    """SimLex's form: all pairs of colours; POS, quartile and association by their number. The last
    pairs, "X", all have one score."""
    lines = [HEAD]
    for i, (a, b) in enumerate(permutations(NAMES, 2)):
        lines.append(f"{a} {b}\t{b}\t{'ANV'[i % 3]}\t{7 * i % 11}\t1\t{i % 4 + 1}\t{i % 5 // 4}")
    lines += [f"red\t{word}\tX\t5\t1\t1\t0" for word in ("red", "blue", "pink")]
    (root / "simlex.txt").write_text("\n".join(lines) + "\n")


def crisscrossed(folder: Path) -> None:
    """16 images, two of each colour, with two captions each, and judgements: of the same colour 5,
    of the colour before 1."""
    (folder / "images" / "val2014").mkdir(parents=True)
    entries: list[dict] = []
    files: dict[str, list] = {"sits": ["caption,image"], "sts": ["caption1,caption2"]}
    files["sis"] = ["image1,image2"]
    for i in range(16):
        colour = tuple(max(0, value - i // 8) for value in COLOURS[NAMES[i % 8]])
        (folder / "images/val2014" / PHOTO.format(i)).write_bytes(plain(colour, (20, 20)))
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
        (folder / f"{kind}_test.csv").write_text("\n".join([f"{columns},agg_score", *lines]) + "\n")


def halves(folder: Path) -> None:
    """Four images of two colours each, left and right, with masks from 1 on; one has no class."""
    for part in ("images", "masks"):
        (folder / part / "below").mkdir(parents=True)
    for left in range(4):
        picture, mask = np.zeros((32, 48, 3), np.uint8), np.zeros((32, 48), np.uint8)
        picture[:, :24], picture[:, 24:] = (COLOURS[NAMES[left + side]] for side in (0, 1))
        mask[4:, :24], mask[4:, 24:] = (left + 1, left + 2) if left < 3 else (0, 0)
        name = "below/0.png" if not left else f"{left}.png"
        Image.fromarray(picture).save(folder / "images" / name)
        Image.fromarray(mask).save(folder / "masks" / name)
    (folder / "names").write_text("\n".join(NAMES))


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
        (16, "its own: a red thing"),
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
    # Of eight images that would be set aside, three are tested.
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
    assert html.count("<img ") == images
    assert [text for text in texts if text not in html] == []
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


# What a file is changed to before the task is run: its name, what is replaced by what.
SIMLEX, NEXT = ("simlex.txt", "\t5\t1"), "image1,image2,score\n"
REFUSED = [
    ("retrieval", ("--data={}/equal.csv", IMAGES), None, "4 of the images"),
    ("retrieval", ("--data={}/none.csv",), None, "no pair with a readable image"),
    ("retrieval", ("--data={}/x.json",), None, "there is no file"),
    ("retrieval", (LINES, "--image_list={}/short.txt", IMAGES), None, "have not as many lines"),
    ("retrieval", (LINES, LIST, "--images={}"), None, "8 of the images that"),
    ("retrieval", ("--data=en={}/none.en", LIST, IMAGES), None, "can't be read as lines"),
    ("retrieval", ("--data={}/00.jpg", LIST, IMAGES), None, "can't be read as lines in UTF-8"),
    ("retrieval", ("--data={}/wrong.jsonl",), None, "line 1 of"),
    ("retrieval", ("--data=de={0}/de.csv,de={0}/en.csv",), None, "names a language twice"),
    ("retrieval", ("--data=de={}/de.csv,fr=x.csv", IMAGES), None, "no file x.csv"),
    ("zero_shot", ("--data={}/colours", "--classes={}/two"), None, "'black' of --data is not a cl"),
    ("zero_shot", ("--data={}/classes.tar", "--classes={}/two"), None, "'2' of --data is not a cl"),
    ("zero_shot", ("--data={}/empty",), None, "has no image"),
    ("zero_shot", ("--data={}/colours", "--prompts=nothing"), None, "no prompts at 'nothing'"),
    ("zero_shot", ("--data={}/colours", "--classes=imagenet-a"), None, "not a class of imagenet-a"),
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
