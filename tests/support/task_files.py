"""Files of every task of `alignset evaluate`, of plain colours."""

import gzip
import json
from itertools import permutations
from pathlib import Path

import numpy as np
from PIL import Image

from alignset.train.evaluate.classes import imagenet_names
from tests.support.evaluations import colour_folders
from tests.support.train_shards import COLOURS, encoded, write_tar

NAMES = list(COLOURS)
SWAPPED = dict(zip(NAMES, NAMES, strict=True)) | {"red": "green", "green": "red"}
HEAD = "word1\tword2\tPOS\tSimLex999\tconc(w1)\tconcQ\tSimAssoc333"
PHOTO = "COCO_val2014_{:012d}.jpg"
SENTENCE = "COCO_val2014:sentid:{}"
HOSTILE = "<script>alert(1)</script>"


def plain(colour: object, size: tuple[int, int] = (9, 9)) -> bytes:
    return encoded(Image.new("RGB", size, colour))


def task_files(root: Path) -> Path:
    """Writes them into an empty folder."""
    root.mkdir(exist_ok=True)
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
    (root / "hostile.csv").write_text(f"image,caption\na.png,{HOSTILE} {'x' * 5000}\nc.png,blue\n")


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
