"""The whole command: counts, a table, and a killed run that ends with the same numbers."""

import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.root import ROOT
from tests.support.train_shards import COLOURS, colour_shards, write_tar

# 40 trainings, 3 s of CPU each.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SHORT, SMALL = 4, 5  # each 4th text has a word, each 5th image has 24 px


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 pairs of coloured images in a shard of another tool, and 16 to evaluate on."""
    folder, files = tmp_path_factory.mktemp("data"), {}
    rng = random.Random(1)
    for number in range(96):
        colour = [*COLOURS][number % len(COLOURS)]
        side = 24 if number % SMALL == 0 else 48
        image = Image.new("RGB", (side, side), COLOURS[colour])
        image.putpixel((rng.randrange(side), rng.randrange(side)), (number, 9, 9))
        out = io.BytesIO()
        image.save(out, "PNG")
        words = [colour] if number % SHORT == 0 else ["a", colour, "picture of a", f"wall {number}"]
        text = " ".join(words)
        url = f"http://host{number}.example/{number}.png"
        files[f"{number:06}.png"] = out.getvalue()
        files[f"{number:06}.txt"] = text.encode()
        files[f"{number:06}.json"] = json.dumps({"url": url, "caption": text}).encode()
    write_tar(folder / "input/00000.tar", files)
    colour_shards(folder / "eval", shards=1, each=16)
    return folder


def command(data: Path, out: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "alignset", "ablate", f"--input={data / 'input'}"),
        *(f"--output={out}", f"--eval=colours={data / 'eval'}", "--input_format=webdataset"),
        *("--language=", "--max_unsafe_score=1", "--min_image_side=30", "--max_images_per_text=50"),
        "--min_evaluation_distance=0",  # plain colours look alike
        *("--budgets=16,32", "--seeds=2", "--jobs=2"),
        "--train=--crop_px=32 --resize_px=36 --batch_size=8 --vocabulary_size=60",
        "--variants=raw,random,all,without-min_words,without-max_words,without-min_image_side",
    ]


def run(data: Path, out: Path, *flags: str) -> tuple[str, str]:
    words = [*command(data, out), *flags]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def recall(point: dict[str, Any], k: str) -> float:
    hits = point["scores"]["colours"][k]
    return 50 * (sum(hits["image"]) / len(hits["image"]) + sum(hits["text"]) / sum(hits["texts"]))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the tables of an ablation that nobody disturbed."""
    out = tmp_path_factory.mktemp("ablations") / "whole"
    said, progress = run(data, out)
    assert "20 trainings, 480 samples seen in all" in progress
    assert "10 of 10: " in progress
    return out, said


def test_the_results_are_of_what_the_rules_keep(data: Path, whole: tuple[Path, str]) -> None:
    out, said = whole
    long, large = ({n for n in range(96) if n % each} for each in (SHORT, SMALL))
    counts = {
        **{"raw": 96, "random": len(long & large), "all": len(long & large)},
        **{"without-min_words": len(large), "without-max_words": len(long & large)},
        "without-min_image_side": len(long),
    }
    found = dict(re.findall(r"^\| `([\w-]+)`[^|]*\| ([\d,]+) ", said, re.MULTILINE))
    assert {name: int(count) for name, count in found.items()} == counts
    assert "| `without-max_words` (= `all`) |" in said  # trained once
    points = {of.stem: json.loads(of.read_text()) for of in (out / "points").glob("*.json")}
    assert len(points) == 5 * 2 * 2
    for k in ("10", "1"):
        _, progress = run(data, out, f"--recall_at={k}")
        assert "3 of 3: 0 trainings" in progress
        numbers = json.loads((out / "ablation.json").read_text())
        assert numbers["measure"] == f"R@{k}"
        assert numbers["chance"]["colours"] == points["all-16-0"]["scores"]["colours"][k]["chance"]
        for row in numbers["results"]["colours"]:
            assert row["pairs"] == counts[row["variant"]]
            for budget, cell in row["budgets"].items():
                of = row["same_as"] or row["variant"]
                seeds = [points[f"{of}-{budget}-{seed}"] for seed in (0, 1)]
                assert {seed["steps"] for seed in seeds} == {int(budget) // 8}
                assert cell["score"] == pytest.approx(sum(recall(seed, k) for seed in seeds) / 2)
                assert cell["low"] <= cell["score"] <= cell["high"]
    assert {path.name for path in out.iterdir()} == {  # nothing is left but results
        *("ablation.json", "ablation.md", "ablation-colours.svg", "settings.json"),
        *("pool", "pool.eval_index", "points", "logs", "variants", "runs"),
    }
    assert [*(out / "runs").iterdir()] == []
    assert {path.suffix for path in (out / "variants").iterdir()} == {".npy", ".json"}


def is_running(process: str) -> bool:
    """Whether a process is there, and not ended and waiting to be collected."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


def test_a_killed_ablation_resumes(whole: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    for wanted in (1, 5):
        started = subprocess.Popen(command(data, out), cwd=ROOT, start_new_session=True)
        while len([*(out / "points").glob("*.json")]) < wanted and started.poll() is None:
            time.sleep(0.2)
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        jobs = [path.stem.removeprefix("job-") for path in (out / "logs").iterdir()]
        while any(is_running(job) for job in jobs):  # they end with the command
            time.sleep(0.1)
    before = {path: path.stat().st_mtime_ns for path in (out / "points").glob("*.json")}
    said, _ = run(data, out)
    assert 5 <= len(before) < 20
    assert {path: path.stat().st_mtime_ns for path in before} == before
    tables = [[line for line in of.splitlines() if line[:1] == "|"] for of in (said, whole[1])]
    assert tables[0] == tables[1]
