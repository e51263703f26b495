"""The commands on pages run, but for `UNTRIED`: page by page, in a folder with small data under the
page's names."""

import contextlib
import gzip
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import EfficientNetConfig, EfficientNetModel

from alignset.__main__ import command_of
from alignset.train.model.dual_encoder import vision_config
from alignset.train.towers import IMAGE_TOWERS
from tests.support.golden import TEXTS, evaluation_image
from tests.support.hostile_tars import tar_of, write_tar
from tests.support.page_archives import page_record, record
from tests.support.page_lines import page_lines, why_untried
from tests.support.picture_files import encoded, photograph
from tests.support.root import ROOT
from tests.support.small_training import SETTINGS
from tests.support.small_web import SmallWeb
from tests.support.stores import free_port
from tests.support.task_files import task_files
from tests.support.train_shards import colour_shards

RUN = [at for at in page_lines() if not why_untried(at[1])]
QUICK = "docs/recipes.md"  # in make test
COUNT = 8
SPANISH = [f"un perro negro corre por la playa grande del norte de España {n}" for n in range(2)]
GERMAN = [f"Ein rotes Auto steht seit {n} Jahren vor dem alten Haus" for n in ("drei", "vier")]
PORTRAIT = 3  # the number of an image that is on lists
# Names on pages of files that the test makes by another name.
ALIKE = {
    **dict.fromkeys(("OUT", "A", "B", "MINE", "NEW", "JUNE", "MAY", "CLEAN", "PUBLIC"), "set"),
    **{f"{name}/holdout": "held/holdout" for name in ("OUT", "MINE", "NEW")},
    **dict.fromkeys(("RUNS/a", "RUNS/b"), "run"),
    **dict.fromkeys(("flickr", "test"), "val"),
    **dict.fromkeys(("may.parquet", "june.parquet", "crawl2.parquet"), "pairs.parquet"),
    "INDEX": "index",
    "OLD": "I2D",
    **dict.fromkeys(("crawl2", "IN"), "crawl/a"),
    "TEST/shards": "colours",
    "dataset_flickr30k.json": "tasks/splits.json",
    "flickr30k-images": "tasks/colours",
    "xm3600/captions.jsonl": "tasks/captions.jsonl",
    "xm3600/images": "tasks",
    "multi30k/image_splits/test_2016_flickr.txt": "tasks/list.txt",
    "imagenet/val": "tasks/synsets",
    **dict.fromkeys(("food", "pets/train", "TRAIN"), "tasks/colours"),
    "pets/test": "tasks/tested",
    "VAL": "tasks/held",
    "ADE/images/validation": "tasks/halves/images",
    "ADE/annotations/validation": "tasks/halves/masks",
    "ade150.txt": "tasks/halves/names",
    "SimLex-999.txt": "tasks/simlex.txt",
    "Crisscrossed-Captions/data": "tasks/cxc",
    "dataset_coco.json": "tasks/cxc/coco.json",
    "coco": "tasks/cxc/images",
}
# Parts of lines, and smaller or local ones in their place.
HERE = {
    "--holdout=0.01": "--holdout=0.3",
    "--min_side=500": "--min_side=300",
    "--min_similarity=0.28": "--min_similarity=-1",
    "--input=…": "--input=pairs.parquet",
    "host:example.org": "host:localhost",
}
SMALL = "--crop_px=32 --resize_px=36 --batch_size=8 --warmup_steps=1"
TINY = f"{SMALL} --steps=2 --vocabulary_size=99 --image_tower=tiny --text_tower=tiny"
CLASSES = " ".join(f"--{part}_px=32" for part in ("frozen_train", "frozen_eval", "train", "eval"))
CLASSES += " --batch_size=8 --micro_batch_size=8"
# Flags that come last, by how a line begins.
MORE = {
    "alignset curate": "--allow_private_addresses",
    "alignset curate --input=IN": "--min_https=0",
    "alignset grow": "--allow_private_addresses",
    "alignset recheck": "--allow_private_addresses",
    "alignset train --start_from": f"{SMALL} --steps=2",
    "alignset train --shards": TINY,
    "alignset train --preset": TINY,
    "alignset classify --preset": f"{CLASSES} --epochs=1",
    "alignset classify --protocol": f"{CLASSES} --steps=2 --trials=1",
    "alignset ablate": "--allow_private_addresses --budgets=8 --seeds=1 --jobs=1 --variants=raw,all"
    f" --train='{SMALL} --vocabulary_size=99'",
    "alignset search serve": "--port=0",
    "python -m alignset.demo.tutorial": "--port={port}",
}
SERVERS = ("alignset search serve", "python -m alignset.demo.tutorial")
# By output: how many pairs the recipes keep of eight English ones, a quarter with a bad column, and
# two Spanish ones; or of the shards, where one more is evaluated on.
KEPT = {"LAION": 6, "COYO": 6, "UIDS": 8, "DATACOMP": 8, "TEXTS": 8, "CRAWL": 8, "CLEAN": 8}
KEPT |= {"FILTERED": 9, "ES": 2, "JOINED": 7}
# By how a line begins: what is in the text that it prints, or among the names of files it makes.
SAYS = {
    "alignset ablate": "^ABLATION/ablation.md$",
    "alignset audit OUT": "^0 differences among the verdicts on ",
    "alignset card OUT": "^OUT/summary-eu.md$",
    "alignset classify --preset": "^RUNS/c/results.json$",
    "alignset classify --protocol=vtab": "^RUNS/vtab/table.md$",
    "alignset curate --input='metadata/*.parquet' --output=UIDS": "^UIDS/uids.npy$",
    "alignset curate --input=OLD --input_format=webdataset --output=NEW": "blocklist .* 1 ",
    "alignset evaluate": '^{"task": ".*"intervals": |"results": ',
    "alignset evaluate retrieval --model RUNS/a --model RUNS/b": '"differences": ',
    "alignset look": r"^(look|copy)\.html$",
    "alignset look OLD --blocklist": "1 kept pairs on the list",
    "alignset look OUT --blocklist": "1 kept pairs on the list",
    "alignset look OUT --reason=evaluation_overlap": "1 of 1 pairs dropped for evaluation_overlap",
    "alignset publish OUT --dry_run": r"^shards/00000\.tar\s\d+$",
    "alignset recheck OUT": r"as they were: ([1-9]\d*) of \1 pairs",
    "alignset report --compare": "^compare.html$",
    "alignset report I2D": "^report.html$",
    "alignset report OUT --max_unsafe_score": "32 pairs with --max_unsafe_score=0.3",
    "alignset rules": "--max_digits=0.3",
    "alignset search index": "^INDEX/rows.parquet$",
    "alignset search query": '^{"rank": 3, |^found.jsonl$',
    "alignset search serve": "[0-9]+ images at http",
    "alignset takedown": r"taken down: 1 pair \(",
    "alignset takedown OUT --blocklist=list.txt --reason": "^OUT/taken_down.u64$",
    "alignset train": "done: the model is in RUNS/(.|\n)*/curve.png",
    "alignset verify PUBLIC --sums": "^PUBLIC/SHA256SUMS$",
    "python -m alignset.demo.tutorial": "387 pairs in pairs.csv",
}


@pytest.fixture(scope="module")
def made(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pages name as inputs, small."""
    made = tmp_path_factory.mktemp("made")
    texts = [*TEXTS[:COUNT], *SPANISH, *GERMAN, *TEXTS[COUNT:30]]
    numbers = range(len(texts))
    images = [encoded(photograph(n, 400, 320), "JPEG") for n in numbers]
    web.files |= {f"/page{n}.jpg": images[n] for n in numbers}
    web.files |= {"/copy1.jpg": images[1], "/exam.jpg": evaluation_image()}
    urls = [f"{web.url}/page{n}.jpg" for n in numbers]
    put_tables(made, urls, texts, images)
    put_pages(made, urls, texts, images)
    put_images(made, images)
    return made


def put_tables(made: Path, urls: list[str], texts: list[str], images: list[bytes]) -> None:
    host = urls[0].rpartition("/")[0]
    few = COUNT + len(SPANISH)
    numbers, of = range(few), slice(few)
    good = [0.1 if n in (0, 1) else 0.35 for n in numbers]
    hashes = [hashlib.sha256(image).hexdigest() for image in images]
    uids = [f"{n:032x}" for n in numbers]
    ones = [0.1] * few
    tables = {
        "laion/0": {"URL": urls[of], "TEXT": texts[of], "similarity": good, "LICENSE": ["?"] * few}
        | {"pwatermark": ones, "punsafe": ones},
        "coyo/0": {"id": [*numbers], "url": urls[of], "text": texts[of], "num_faces": [1] * few}
        | {"clip_similarity_vitb32": good, "watermark_score": ones},
        "metadata/0": {"uid": uids, "url": urls[of], "text": texts[of], "sha256": hashes[of]}
        | {"original_width": [400] * few, "original_height": [320] * few}
        | {"face_bboxes": [[[0.1, 0.1, 0.4, 0.4]]] * few},
        "scores": {"uid": uids[:COUNT], "aesthetic": [4.0] + [6.0] * (COUNT - 1)},
        "pairs": {
            # One is gone, one is short, one has the file of another, one is in `val`.
            "url": [*urls, f"{urls[0]}?gone", urls[0], f"{host}/copy1.jpg", f"{host}/exam.jpg"],
            "caption": [*texts, TEXTS[39], "short", *TEXTS[40:42]],
        },
        "crawl/a/0": {"url": urls[::2], "caption": texts[::2]},
        "crawl/b/0": {"url": urls[1::2], "caption": texts[1::2]},
        "known": {"sha256": hashes[:1]},
    }
    for name, columns in tables.items():
        (made / name).parent.mkdir(exist_ok=True, parents=True)
        pq.write_table(pa.table(columns), made / f"{name}.parquet")
    join = re.findall(r"```python\n(.*?)```", (ROOT / "docs/recipes.md").read_text(), re.DOTALL)
    subprocess.run([sys.executable, "-c", join[0]], cwd=made, check=True)


def put_pages(made: Path, urls: list[str], texts: list[str], images: list[bytes]) -> None:
    pairs = [*zip(urls, texts, strict=True)][: COUNT + len(SPANISH)]
    links = [{"path": "IMG@/src", "url": url, "alt": text} for url, text in pairs]
    answer = {"HTML-Metadata": {"Links": links}, "Response-Message": {"Status": "200"}}
    head = {"WARC-Type": "response", "WARC-Target-URI": "https://page.example/"}
    body = {"WARC-Header-Metadata": head, "Payload-Metadata": {"HTTP-Response-Metadata": answer}}
    wat = json.dumps({"Envelope": body}, separators=(",", ":")).encode()
    kinds = {"kind": "metadata", "content": "application/json"}
    (made / "a.wat.gz").write_bytes(gzip.compress(record("https://page.example/", wat, **kinds)))
    html = "".join(f'<img src="{url}" alt="{text}">' for url, text in pairs)
    warc = gzip.compress(page_record("https://page.example/", html))
    (made / "crawl/0.warc.gz").write_bytes(warc)
    (made / "www").mkdir()
    (made / "www/index.html").write_text(html)
    rules = re.search(r"```python\n(.*?)```", (ROOT / "docs/rules.md").read_text(), re.DOTALL)
    assert rules
    (made / "my_rules.py").write_text(rules[1])
    (made / "hosts.txt").write_text("domain:example.org\n")
    (made / "list.txt").write_text(f"url:{urls[PORTRAIT]}\n")
    # The last one is evaluated on, and of a host that is on a list.
    old = [*pairs[:COUNT], ("http://localhost/1.png", TEXTS[60])]
    rows = {f"{n:09}.json": {"url": url, "caption": text} for n, (url, text) in enumerate(old)}
    packed = {name: json.dumps(row | {"key": name[:9]}).encode() for name, row in rows.items()}
    packed |= {f"{n:09}.txt": text.encode() for n, (_, text) in enumerate(old)}
    files = [*images[:COUNT], evaluation_image()]
    packed |= {f"{n:09}.jpg": file for n, file in enumerate(files)}
    write_tar(made / "I2D/00000.tar", dict(sorted(packed.items())))


def put_images(made: Path, images: list[bytes]) -> None:
    (made / "val").mkdir()
    picture = evaluation_image()
    (made / "val/1.png").write_bytes(picture)
    for tar in ("test.tar", "val/test.tar"):
        (made / tar).write_bytes(tar_of({"1.png": picture}))
    (made / "photo.jpg").write_bytes(picture)
    (made / "portrait.jpg").write_bytes(images[PORTRAIT])
    colour_shards(made / "colours", shards=1, each=16)
    task_files(made / "tasks")
    for part, name in (("train", "colours"), ("test", "held")):
        shutil.copytree(made / "tasks" / name, made / "TASKS/one" / part)
    raw = made / "multi30k/task2/raw"
    raw.mkdir(parents=True)
    for file in (made / "tasks").glob("test.*.gz"):
        shutil.copy(file, raw / file.name.replace("test", "test_2016"))
    for name, synset in (("red", "n01498041"), ("blue", "n01531178")):
        shutil.copytree(made / "tasks/colours" / name, made / "imagenet-a" / synset)
    sizes = vision_config(IMAGE_TOWERS["tiny"], SETTINGS).to_dict() | {"model_type": "efficientnet"}
    weights = made / "google/efficientnet-b0"
    EfficientNetModel(EfficientNetConfig(**sizes)).save_pretrained(weights)


def find(name: str, made: Path) -> Path:
    """A made file or folder by its name on the page; datasets are made when first wanted."""
    path = made / ALIKE.get(name, name)
    if not path.exists():
        first = path.relative_to(made).parts[0]
        curate = f"curate --input={made}/pairs.parquet --allow_private_addresses"
        of, words = {
            "set": ("pairs.parquet", curate),
            "held": ("pairs.parquet", f"{curate} --holdout=0.3"),
            "run": ("set", f"train --shards={made}/set/shards --preset=tiny {TINY}"),
            "index": ("run", f"search index --model={made}/run --data={made}/set/shards"),
        }[first]
        find(of, made)
        name, *flags = shlex.split(words)
        assert command_of(name)([*flags, f"--output={made / first}"]) == 0
    return path


def give_inputs(line: str, made: Path) -> None:
    """Puts what a line reads into the folder, unless a line before has made it."""
    if line.startswith("alignset grow"):  # a takedown before it would require its list
        shutil.rmtree("OUT", ignore_errors=True)
    read = re.sub(r"--output[ =]\S+|> \S+", "", line)
    for name in sorted({*ALIKE, *(path.name for path in made.iterdir())}):
        if re.search(rf"""(?<![^\s='",:]){re.escape(name)}(?![^\s='",/])""", read):
            to = Path(name)
            if not to.exists():
                to.parent.mkdir(parents=True, exist_ok=True)
                path = find(name, made)
                (shutil.copytree if path.is_dir() else shutil.copy)(path, to)
    for pattern in re.findall(r"--input='\*(\S+)'", read):
        for path in made.glob(f"*{pattern}"):
            shutil.copy(path, path.name)


def here(line: str) -> str:
    """A line of a page with what is smaller or nearer here."""
    for shown, own in HERE.items():
        line = line.replace(shown, own)
    line, arrow, to = line.partition(" #")[0].partition(" > ")
    more = [own.format(port=free_port()) for part, own in MORE.items() if line.startswith(part)]
    return " ".join([line.rstrip(), *(more if "--text_only" not in line else ())]) + arrow + to


@contextlib.contextmanager
def serving(line: str) -> Iterator[str]:
    """A server that a line starts; yields what it says first, when it answers."""
    words = shlex.split(f"{sys.executable} -m {line.removeprefix('python -m ')}")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            said = server.stdout.readline()
            with contextlib.suppress(urllib.error.HTTPError):  # a web of images has no first page
                urllib.request.urlopen(re.findall(r"http://[\d.:]+", said)[0]).close()
            yield said
        finally:
            server.terminate()


def run(line: str) -> int:
    """The exit status of a line. A command of ours runs in this process, which has its imports."""
    if not line.startswith("alignset "):
        return subprocess.run(line, shell=True, check=False).returncode
    line, _, to = line.partition(" > ")
    _, name, *flags = shlex.split(line)
    with contextlib.ExitStack() as opened:
        if to:
            file = opened.enter_context(Path(to).open("w"))
            opened.enter_context(contextlib.redirect_stdout(file))
        return command_of(name)(flags, f"alignset {name}")


PAGES = [pytest.param(at, marks=[pytest.mark.slow] * (at != QUICK)) for at in dict(RUN)]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.timeout(1200)
def test_the_commands_of_a_page_run(page, made, tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")  # img2dataset's: it would ask the internet
    kept = {}
    with contextlib.ExitStack() as servers:
        for shown in (line for of, line in RUN if of == page):
            line = here(shown)
            give_inputs(line, made)
            out = next(iter(re.findall(r"--output[ =](\S+)", line)), "")
            if out and not line.startswith("alignset publish"):  # which adds to it
                shutil.rmtree(out, ignore_errors=True)  # a page shows several ways to make one
            Path("before").touch()
            if line.startswith(SERVERS):
                said = servers.enter_context(serving(line))
            else:
                status = run(line)
                said = "".join(capfd.readouterr())
                assert status == 0, f"{page}: {line}\n{said}"
            before = Path("before").stat().st_mtime_ns
            new = [str(f) for f in sorted(Path().rglob("*")) if f.stat().st_mtime_ns >= before]
            said = "\n".join([said, *new])
            says = [text for part, text in SAYS.items() if line.startswith(part)]
            for text in [f"^{re.escape(out)}", *says]:
                assert re.search(text, said, re.MULTILINE), f"{page}: {line} without {text}\n{said}"
            if line.startswith("alignset curate"):
                kept[out] = json.loads(Path(out, "funnel.json").read_text())["steps"][-1]["kept"]
    assert all(kept.values())
    assert page != QUICK or kept == KEPT
