"""A step of the optimizer that one bad batch cannot spoil."""

import torch

from alignset.train.errors import Diverged, counted
from alignset.train.settings import Settings

ADVICE = "try a lower --learning_rate or more --warmup_steps, in a new --run"


class GuardedStep:
    """Takes an optimizer's step where loss and gradient are finite, and leaves weights, averages
    and statistics as they were where they aren't. It decides on the device: nothing waits for it.

    Every process decides alike, since the gradient is the same on all of them; one whose loss is
    not finite has sent back a gradient that is none (`train/step.py`).

    Args:
      optimizer: one that leaves a step out where its `found_inf` is 1, as torch's fused ones do.
      skipped: how many steps of the run were left out before.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: Settings,
        *,
        skipped: int = 0,
    ):
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._buffers = list(model.buffers())
        self._last_buffers = [buffer.clone() for buffer in self._buffers]  # after the last step
        self._optimizer, self._settings = optimizer, settings
        device = self._parameters[0].device
        self.norm = torch.zeros((), device=device)  # of the last gradient, as it came
        self._skip_count = torch.tensor(float(skipped), device=device)
        self._in_a_row = torch.zeros((), device=device)

    @torch.no_grad()
    def step(self, step: int) -> None:
        """Raises Diverged on a CPU; elsewhere `check` does, at times."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        self.norm = torch.nn.utils.get_total_norm(gradients)
        finite = self.norm.isfinite()
        bad = (~finite).float()
        if self._settings.max_gradient_norm:
            factor = (self._settings.max_gradient_norm / self.norm.clamp(min=1e-12)).clamp(max=1)
            torch._foreach_mul_(gradients, factor)
        # Its type knows neither; torch.amp's GradScaler sets it as well.
        self._optimizer.found_inf = bad  # type: ignore[attr-defined]
        self._optimizer.step()
        for buffer, last in zip(self._buffers, self._last_buffers, strict=True):
            torch.where(finite, buffer, last, out=last)
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._last_buffers)
        self._skip_count += bad
        self._in_a_row = (self._in_a_row + 1) * bad
        if self.norm.device.type == "cpu":
            self.check(step)

    @property
    def skipped(self) -> int:
        """Steps of the run that were left out; waits for the device."""
        return int(self._skip_count.item())

    @property
    def left_out(self) -> bool:
        """Whether the last step was; waits for the device."""
        return bool(self._in_a_row.item() > 0)

    def check(self, step: int) -> None:
        """Raises Diverged, on all processes alike, where too many steps were left out; waits for
        the device."""
        skipped, most = self.skipped, self._settings.max_skipped_steps
        if skipped <= most:
            return
        in_a_row = int(self._in_a_row.item())
        last = f", the last {in_a_row} in a row," if in_a_row > 1 else ""
        raise Diverged(
            f"the loss or the gradient of {counted(skipped, 'step')} up to step {step}{last} was "
            f"not a finite number (max_skipped_steps is {most}): {ADVICE}"
        )
