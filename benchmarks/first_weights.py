"""What the image tower's first weights are worth: EfficientNet's own against transformers'.

  python benchmarks/first_weights.py [--pairs=3000] [--steps=300] [--seeds=2]

Trains the `tiny` preset at 40 px with batches of 64 anew for each set, first weights and seed, by
the command, with the very same data in the same order. Each model ranks 200 pictures that it has
not seen; R@1 is the mean of both directions, chance is 0.5 %.

- scenes: the demo's coloured shapes; those that are ranked have combinations of words that no pair
  of the training has.
- stamps: the drawings of Debian's package tuxpaint-stamps-default, each with its English sentence,
  on other backgrounds, at other places and sizes, and 200 of them once more for the ranking.

`own` is what the trainer has (`draw_first_weights` of train/model/image_tower.py: the standard
deviation follows from each kernel's fan-out), `transformers` 0.02 for all of them.
"""

import argparse
import io
import json
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import numpy as np
from PIL import Image
from results import print_results

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from demo.scenes import encode, random_scene, render  # noqa: E402

STAMPS = Path("/usr/share/tuxpaint/stamps")
RANKED = 200
WEIGHTS = {
    "own": "from alignset.train.__main__ import main",
    "transformers": (
        "import alignset.train.model.dual_encoder as model; "
        "model.draw_first_weights = lambda tower: None; "
        "from alignset.train.__main__ import main"
    ),
}
SHAPE = ("--preset=tiny", "--crop_px=40", "--resize_px=45", "--batch_size=64", "--trackers=")

Pair = tuple[Image.Image, str]


def scenes(pairs: int) -> tuple[Iterator[Pair], Iterator[Pair]]:
    """To train on, and RANKED of other combinations."""
    rng = random.Random(5)
    held = {}
    while len(held) < RANKED:
        scene = random_scene(rng)
        held[scene.combination] = scene
    taken = []
    while len(taken) < pairs:
        scene = random_scene(rng)
        if scene.combination not in held:
            taken.append(scene)
    trained = ((render(scene, (5, n)), scene.text) for n, scene in enumerate(taken))
    ranked = ((render(scene, (6, n)), scene.text) for n, scene in enumerate(held.values()))
    return trained, ranked


def stamps(pairs: int) -> tuple[Iterator[Pair], Iterator[Pair]]:
    """Likewise, of as many stamps as have a sentence of their own; each is trained on equally
    often."""
    sentences = {}
    for path in sorted(STAMPS.rglob("*.png")):
        about = path.with_suffix(".txt")
        if about.exists() and not path.stem.endswith("_mirror"):
            line = about.read_text("utf-8", "replace").partition("\n")[0].strip()
            sentences.setdefault(line, path)
    cut_outs = [(Image.open(path).convert("RGBA"), line) for line, path in sentences.items()]
    if len(cut_outs) < RANKED:
        raise SystemExit(f"no {RANKED} stamps in {STAMPS}: install tuxpaint-stamps-default")
    rng = np.random.default_rng(7)
    trained = (composed(cut_outs[n % len(cut_outs)], rng) for n in range(pairs))
    others = np.random.default_rng(8)
    chosen = others.choice(len(cut_outs), RANKED, replace=False)
    return trained, (composed(cut_outs[n], others) for n in chosen)


def composed(cut_out: Pair, rng: np.random.Generator) -> Pair:
    """On soft clouds of colour, somewhere, a half to the whole of the side large."""
    stamp, line = cut_out
    clouds = rng.integers(60, 230, (4, 4, 3)).astype(np.uint8)
    picture = Image.fromarray(clouds).resize((160, 160), Image.Resampling.BICUBIC).convert("RGBA")
    side = int(rng.integers(80, 161))
    small = stamp.copy()
    small.thumbnail((side, side))
    at = tuple(int(rng.integers(0, 161 - edge)) for edge in small.size)
    picture.alpha_composite(small, at)
    return picture.convert("RGB"), line


def write(pairs: Iterator[Pair], path: Path) -> Path:
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w") as tar:
        for number, (picture, text) in enumerate(pairs):
            for extension, data in (("jpg", encode(picture)), ("txt", text.encode())):
                entry = tarfile.TarInfo(f"{number:06d}.{extension}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return path


def run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def recall(weights: str, shards: tuple[Path, Path], folder: Path, steps: int, seed: int) -> float:
    """R@1 in percent of a model that is trained from these weights on."""
    trained, ranked = shards
    script = f"import sys; {WEIGHTS[weights]}; sys.exit(main(sys.argv[1:]))"
    flags = [f"--shards={trained}", f"--run={folder}", f"--steps={steps}", f"--seed={seed}"]
    rest = (f"--warmup_steps={steps // 10}", f"--checkpoint_every={steps}")
    run([sys.executable, "-c", script, *flags, *SHAPE, *rest])
    task = (
        "alignset.train.evaluate",
        "retrieval",
        f"--model={folder / 'model'}",
        f"--data={ranked}",
    )
    scores = json.loads(run([sys.executable, "-m", *task]).splitlines()[-1])
    return mean(scores[way]["R@1"] for way in ("image_to_text", "text_to_image"))


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("--pairs", type=int, default=3_000, help="to train on, of each set")
    flags.add_argument("--steps", type=int, default=300)
    flags.add_argument("--seeds", type=int, default=2)
    args = flags.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name, draw in (("scenes", scenes), ("stamps", stamps)):
            trained, ranked = draw(args.pairs)
            at = Path(temporary) / name
            shards = write(trained, at / "train/0.tar"), write(ranked, at / "eval/0.tar")
            recalls: dict[str, list[float]] = {weights: [] for weights in WEIGHTS}
            for seed in range(args.seeds):
                for weights, of_seeds in recalls.items():  # by turns
                    folder = at / f"{weights}-{seed}"
                    of_seeds.append(recall(weights, shards, folder, args.steps, seed))
            for weights, of_seeds in recalls.items():
                each = " ".join(f"{value:.1f}" for value in of_seeds)
                row = {"set": name, "first weights": weights, "R@1 %": mean(of_seeds)}
                rows.append(row | {"each seed": each})
    figures = {"benchmark": "first_weights", **vars(args), "rows": rows}
    print_results(rows, figures, ("torch", "transformers"))


if __name__ == "__main__":
    main()
