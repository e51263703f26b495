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


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """An ablation that nobody disturbed: its folder and what it said."""
    out = tmp_path_factory.mktemp("ablations") / "whole"
    done = subprocess.run(command(data, out), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out, done.stdout, done.stderr


def test_the_table_counts_what_the_rules_keep(whole: tuple[Path, str, str]) -> None:
    out, said, progress = whole
    numbers = range(96)
    long, large = ({n for n in numbers if n % each} for each in (SHORT, SMALL))
    counts = {
        "raw": 96,
        "random": len(long & large),
        "all": len(long & large),
        "without-min_words": len(large),
        "without-max_words": len(long & large),
        "without-min_image_side": len(long),
    }
    rows = dict(re.findall(r"^\| `([\w-]+)`[^|]*\| ([\d,]+) ", said, re.MULTILINE))
    assert {name: int(count) for name, count in rows.items()} == counts
    assert "| `without-max_words` (= `all`) |" in said  # trained once
    points = [*(out / "points").glob("*.json")]
    assert len(points) == 5 * 2 * 2
    results = json.loads((out / "ablation.json").read_text())["results"]["colours"]
    for row in results:
        assert row["pairs"] == counts[row["variant"]]
        for budget, cell in row["budgets"].items():
            of = row["same_as"] or row["variant"]
            seeds = [
                json.loads((out / f"points/{of}-{budget}-{s}.json").read_text()) for s in (0, 1)
            ]
            recalls = []
            for seed in seeds:
                hits = seed["scores"]["colours"]["1"]
                of_image = sum(hits["image"]) / len(hits["image"])
                recalls.append(50 * (of_image + sum(hits["text"]) / sum(hits["texts"])))
                assert seed["steps"] == int(budget) // 8
            assert cell["score"] == pytest.approx(sum(recalls) / 2)
            assert cell["low"] <= cell["score"] <= cell["high"]
    assert "20 trainings, 480 samples seen in all" in progress
    assert progress.index("about 0:") < progress.index("1 of 20")  # the time, before it starts


def test_other_recalls_need_no_training(data: Path, whole: tuple[Path, str, str]) -> None:
    out = whole[0]
    again = [*command(data, out), "--recall_at=10"]
    done = subprocess.run(again, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "3 of 3: 0 trainings" in done.stderr
    assert "R@10 in percent" in done.stdout
    numbers = json.loads((out / "ablation.json").read_text())
    points = [json.loads((out / f"points/raw-16-{seed}.json").read_text()) for seed in (0, 1)]
    recalls = []
    for point in points:
        hits, first = (point["scores"]["colours"][k] for k in ("10", "1"))
        assert sum(hits["image"]) > sum(first["image"])
        of_image = sum(hits["image"]) / len(hits["image"])
        recalls.append(50 * (of_image + sum(hits["text"]) / sum(hits["texts"])))
    assert numbers["measure"] == "R@10"
    assert numbers["chance"]["colours"] == hits["chance"] > first["chance"]
    raw = next(row for row in numbers["results"]["colours"] if row["variant"] == "raw")
    assert raw["budgets"]["16"]["score"] == pytest.approx(sum(recalls) / 2)
    subprocess.run(command(data, out), cwd=ROOT, check=True)  # as the other tests have it


def test_nothing_is_left_but_results(whole: tuple[Path, str, str]) -> None:
    out, said, _ = whole
    left = {path.name for path in out.iterdir()}
    assert left == {
        *("ablation.json", "ablation.md", "ablation-colours.svg", "settings.json"),
        *("pool", "pool-36px", "pool.eval_index", "points", "logs", "variants", "runs"),
    }
    assert [*(out / "runs").iterdir()] == []
    assert {path.suffix for path in (out / "variants").iterdir()} == {".npy", ".json"}
    page = (out / "ablation.md").read_text()
    assert said.strip() == re.sub(r"!\[.*\n\n", "", page).strip()


def is_running(process: str) -> bool:
    """Whether a process is there, and not ended and waiting to be collected."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


def test_a_killed_ablation_resumes(
    whole: tuple[Path, str, str], data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    for wanted in (1, 5):
        started = subprocess.Popen(command(data, out), cwd=ROOT, start_new_session=True)
        while len([*(out / "points").glob("[!p]*.json")]) < wanted and started.poll() is None:
            time.sleep(0.2)
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        jobs = [path.stem.partition("-")[2] for path in (out / "logs").glob("job-*.log")]
        while any(is_running(job) for job in jobs):  # they end with the command
            time.sleep(0.1)
    before = {path: path.stat().st_mtime_ns for path in (out / "points").glob("*.json")}
    done = subprocess.run(command(data, out), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 5 <= len(before) < 20
    assert {path: path.stat().st_mtime_ns for path in before} == before
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert table == [line for line in whole[1].splitlines() if line.startswith("|")]
