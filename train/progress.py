"""What a run shows while it runs: a bar (or plain lines) on stderr, metrics.jsonl, trackers."""

import json
import math
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
from tqdm import tqdm

from train import processes
from train.errors import Diverged
from train.optimizer import learning_rate
from train.settings import Settings
from train.step import Seen
from train.trackers import SHOWN_SAMPLES, Tracker, open_trackers

_ADVICE = "try a lower --learning_rate or more --warmup_steps, in a new --run"


class Progress:
    """Counts steps and, when told, reports. A bar on a terminal, else a line for each report."""

    def __init__(self, run: Path, settings: Settings, *, start: int, quiet: bool):
        self.metrics, self.settings, self.quiet = run / "metrics.jsonl", settings, quiet
        self.trackers: list[Tracker] = []
        if not quiet:
            self.trackers = open_trackers(settings.trackers, run, settings, start + 1)
        self.bar = tqdm(
            initial=start,
            total=settings.steps,
            unit="step",
            disable=quiet or not sys.stderr.isatty(),
        )
        self._first, self._since, self._steps_since = start + 1, time.perf_counter(), 0

    def step(
        self,
        step: int,
        seen: Seen,
        model: torch.nn.Module,
        *,
        check: bool,
    ) -> None:
        """Counts the step; reports it, and shows its samples, where the settings say so.

        Args:
          seen: what the step saw.
          model: has a `temperature`, and the step's gradients.
          check: look whether the run has diverged even if there is nothing to report.

        Raises:
          Diverged: as `check_health` does. All processes raise it at the same step.
        """
        self.bar.update()
        self._steps_since += 1
        settings = self.settings
        reported = step == settings.steps or step % settings.log_every == 0
        if reported or check:
            measured = measure(seen, model)
            check_health(step, measured, settings.min_temperature)
        if reported:
            rest = {
                "learning_rate": learning_rate(step, settings),
                "epoch": seen.inputs.position.epoch,
                "skipped": seen.inputs.position.skipped,
            }
            self._report({"step": step} | measured | rest)
        first = step == self._first
        if settings.samples_every and (first or step % settings.samples_every == 0):
            pixels, texts = seen.inputs.pixels.numpy(), seen.inputs.captions
            self._tell("samples", step, pixels[:SHOWN_SAMPLES], texts[:SHOWN_SAMPLES])

    def _report(self, row: dict) -> None:
        """Shows, writes and tells the trackers of one row, with the speed since the last one."""
        now = time.perf_counter()
        step_s = (now - self._since) / self._steps_since
        self._since, self._steps_since = now, 0
        if self.quiet:
            return
        row = row | {"samples_per_second": round(self.settings.batch_size / step_s, 1)}
        shown = (
            f"loss {row['loss']:.3f} accuracy {row['accuracy']:.1%} "
            f"temperature {row['temperature']:.4f} gradient norm {row['gradient_norm']:.3g} "
            f"{row['samples_per_second']:.0f} samples/s"
        )
        self.bar.set_postfix_str(shown)
        if self.bar.disable:
            left = timedelta(seconds=round((self.settings.steps - row["step"]) * step_s))
            self.say(f"step {row['step']}/{self.settings.steps} {shown} {left} left")
        with open(self.metrics, "a") as file:
            file.write(json.dumps(row) + "\n")
        self._tell("scalars", row["step"], {n: v for n, v in row.items() if n != "step"})

    def say(self, line: str) -> None:
        if not self.quiet:
            tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        self._tell("close")
        self.bar.close()

    def _tell(self, method: str, *arguments: object) -> None:
        for tracker in list(self.trackers):
            try:
                getattr(tracker, method)(*arguments)
            except Exception as error:  # a full disk, a lost network: no reason to stop training
                self.trackers.remove(tracker)
                self.say(f"the tracker {type(tracker).__name__} is left out: {error!r:.200}")


def measure(seen: Seen, model: torch.nn.Module) -> dict[str, float]:
    """How a step went. All processes have to call it: loss and accuracy are of all their rows.

    Args:
      seen: what the step saw.
      model: has a `temperature`, and the step's gradients.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return {
        "loss": processes.mean(seen.loss),
        "accuracy": processes.mean(in_batch_accuracy(seen.images, seen.texts)),
        "temperature": model.temperature.item(),
        "gradient_norm": torch.nn.utils.get_total_norm(gradients).item(),
    }


@torch.no_grad()
def in_batch_accuracy(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """float[]: the share of float[b, d] rows that lie nearest to their own pair's other half.

    The mean of both directions, among the candidates of the global batch. 512 rows at a time: of
    16,384 the whole matrix would take 1 GiB.
    """
    b = len(images)
    first = b * processes.rank()
    target = torch.arange(first, first + b, device=images.device)  # int64[b]
    right = torch.zeros((), device=images.device)
    for rows, candidates in ((images, texts), (texts, images)):
        if processes.grouped():
            candidates = processes.gather_rows(candidates)  # [b * processes, d]
        for part, own in zip(rows.split(512), target.split(512), strict=True):
            right += ((part @ candidates.T).argmax(dim=1) == own).sum()
    return right / (2 * b)


def check_health(step: int, measured: dict[str, float], min_temperature: float) -> None:
    """Raises Diverged where a number is none, or the temperature is too low to learn from."""
    for name in ("loss", "gradient_norm", "temperature"):
        if not math.isfinite(measured[name]):
            raise Diverged(
                f"the {name.replace('_', ' ')} is {measured[name]} at step {step}: {_ADVICE}"
            )
    if measured["temperature"] <= min_temperature * (1 + 1e-6):  # as a float32's logarithm has it
        raise Diverged(
            f"the temperature is {measured['temperature']:.2g} at step {step}, the "
            f"least it may be, where nothing more is learned: {_ADVICE}; or more "
            "--label_smoothing, if the pairs are few and learned by heart"
        )
