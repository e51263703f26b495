"""What a run shows while it runs: a bar (or plain lines) on stderr, and metrics.jsonl."""

import json
import math
import sys
import time
from pathlib import Path

from tqdm import tqdm

from train.errors import TrainingError


class Progress:
    """Counts steps and, when told, reports. A bar on a terminal, else a line for each report."""

    def __init__(self, run: Path, *, start: int, steps: int, batch_size: int, quiet: bool):
        self.metrics, self.steps = run / "metrics.jsonl", steps
        self.batch_size, self.quiet = batch_size, quiet
        self.bar = tqdm(
            initial=start, total=steps, unit="step", disable=quiet or not sys.stderr.isatty()
        )
        self._since, self._steps_since = time.perf_counter(), 0

    def step(self) -> None:
        self.bar.update()
        self._steps_since += 1

    def report(self, row: dict) -> None:
        """Shows and writes one row, with the pairs per second since the last one.

        Raises:
          TrainingError: its loss is no finite number.
        """
        now = time.perf_counter()
        speed = self.batch_size * self._steps_since / (now - self._since)
        self._since, self._steps_since = now, 0
        if not math.isfinite(row["loss"]):
            raise TrainingError(
                f"the loss is {row['loss']} at step {row['step']}: "
                "try a lower --learning_rate or more --warmup_steps, in a new --run"
            )
        if self.quiet:
            return
        shown = f"loss {row['loss']:.3f} temperature {row['temperature']:.4f} {speed:.0f} samples/s"
        self.bar.set_postfix_str(shown)
        if self.bar.disable:
            self.say(f"step {row['step']}/{self.steps} {shown}")
        with open(self.metrics, "a") as file:
            file.write(json.dumps(row | {"samples_per_second": round(speed, 1)}) + "\n")

    def say(self, line: str) -> None:
        if not self.quiet:
            tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        self.bar.close()
