"""Writes docs/memory.md from the function that computes what a step takes: `make docs`.

`python docs/write_memory.py --check` fails where the page is not current.
"""

import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from alignset.train.memory import Memory, memory_needed  # noqa: E402
from alignset.train.presets import PRESETS  # noqa: E402
from alignset.train.settings import Settings  # noqa: E402

PAGE = ROOT / "docs" / "memory.md"
GPU = 80e9  # bytes
BEGIN = """\
# Memory of a training step

This page is for whoever chooses a preset, a micro-batch or a number of GPUs. It says what one step
takes of each GPU's memory, as `train/memory.py` computes it, for 1 and for 8 GPUs of 80 GB. `make
docs` writes it, and a test fails when it is not current. **No GPU was at hand: nothing here was
measured on one.** What the towers keep for the way back was compared with what torch keeps of the
same model without memory, in bfloat16 and in float32 (`tests/train/test_memory.py`).

A run whose step does not fit is refused before it starts, with a smaller micro-batch or
`--checkpoint_activations=true` that would fit. On a CPU the machine's memory counts, or what a
container may use. `--check_memory=false` tries all the same. A model to go on with (`--start_from`)
is not checked.

## The formula

The sum of these, 5 % for what lies between tensors, and 2 GiB for CUDA and cuDNN, which is a guess:

- **State**: 20 bytes a parameter. A float32 weight, its gradient and two averages are 16; LAMB's
  moves, or the weights in bfloat16 while the towers run, are 4 more.
- **Activations** of a micro-batch, 2 bytes a value in bfloat16. Each convolution keeps its input,
  each BatchNorm its input, each swish its input. A block of the image tower with `e` inner channels
  and `o` outer ones, from a map of `s` x `s` to one of `r` x `r`, keeps its input and `3 e s² + 4 e
  r² + o r²` values. A layer of the text tower with the width `h` keeps `44 h` bytes of each token
  in bfloat16, and `70 h` in float32, of `--max_tokens` tokens. With `--checkpoint_activations` each
  block keeps its input, and one block all.
- **A frozen tower** (`--freeze`) has its weights alone, 4 bytes a parameter, and keeps nothing.
- **Working memory**: three float32 copies of the image tower's largest map, in BatchNorm.
- **Batch**: float32 scores of 512 rows with all pairs, six times (24 bytes for each of 512 x
  `--batch_size`), and the embeddings of all pairs and their gradients.

Between the two passes of a cached step the pixels wait in the machine's own memory: pinned as long
as they take no more than a quarter of what it has left, and in a temporary file from there on.

## Each preset

GB of each GPU. "Twice" is with `--checkpoint_activations=true`. "Largest" is the largest
micro-batch that fits into 80 GB on 8 GPUs, without and with it.

| preset | micro-batch | state | 1 GPU | twice | 8 GPUs | twice | largest |
|---|---|---|---|---|---|---|---|
"""


def needed(settings: Settings, processes: int, *, twice: bool) -> Memory:
    return memory_needed(replace(settings, checkpoint_activations=twice), processes)


def largest(settings: Settings, *, twice: bool) -> int:
    """Pairs at once of one of 8 GPUs."""
    share = settings.batch_size // 8
    sizes = [16 << n for n in range(12) if 16 << n <= share]
    fit = [
        size
        for size in sizes
        if needed(replace(settings, micro_batch_size=size), 8, twice=twice).total <= GPU
    ]
    return max(fit, default=0)


def row(name: str) -> str:
    settings = PRESETS[name].on("cuda")
    cells = [f"`{name}`", str(settings.micro_batch_size)]
    cells.append(f"{needed(settings, 1, twice=False).state / 1e9:.1f}")
    for processes in (1, 8):
        for twice in (False, True):
            cells.append(f"{needed(settings, processes, twice=twice).total / 1e9:.1f}")
    cells.append(" / ".join(str(largest(settings, twice=twice)) for twice in (False, True)))
    return f"| {' | '.join(cells)} |"


def page() -> str:
    # Two are for CPUs, and those that go on with a model have its towers.
    others = ("tiny", "laptop", "flickr30k", "mscoco")
    names = [name for name in PRESETS if name not in others]
    return BEGIN + "\n".join(row(name) for name in names) + "\n"


def main(arguments: list[str]) -> int:
    written = page()
    if "--check" in arguments:
        if PAGE.read_text() != written:
            print(f"{PAGE} is not current: run `make docs`", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(written)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
