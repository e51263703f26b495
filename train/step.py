"""The gradients of one step: in one pass or, for a batch larger than memory, in two.

In two (GradCache: Gao et al., 2021, "Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup"): first embed all pairs, a few at a time, without a graph. The loss of the whole
batch gives the gradient of each embedding. Then embed the same few pairs again, now with a graph,
and send that gradient back through it. The sum over all is the gradient of the one pass.
"""

import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from alignset.train.data.inputs import Inputs
from alignset.train.loss import contrastive_loss
from alignset.train.model.tower_layers import frozen_statistics
from alignset.train.runs import processes
from alignset.train.runs.device import full_precision, memory_of
from alignset.train.runs.progress import StepOutput
from alignset.train.settings import Settings

_WAITING = 1 << 33  # bytes of all processes: 16,384 crops of 289 px, as pinned memory rounds them


def step_gradients(
    replica: torch.nn.Module, micro_batches: Iterable[Inputs], settings: Settings, step: int
) -> StepOutput:
    """Adds the gradients of the global batch's loss to the model's.

    Args:
      replica: a DualEncoder, as `processes.replicate` gives it.
      micro_batches: this process's pairs. All processes have as many micro-batches.
      step: what the random numbers of dropout and stochastic depth follow from.
    """
    number, _ = settings.micro_batches(processes.count())
    gradients = _one_pass if number == 1 else _two_passes
    return gradients(replica, micro_batches, settings, step)


def _one_pass(
    replica: torch.nn.Module, micro_batches: Iterable[Inputs], settings: Settings, step: int
) -> StepOutput:
    (inputs,) = micro_batches
    seed_micro_batch(settings, step, 0)
    outputs = replica(inputs)  # [b, d], [b, d], []
    images, texts, temperature = (part.detach() for part in outputs)
    loss, *gradients = _loss_gradients(images, texts, temperature, settings)
    _send_back(outputs, gradients)
    return StepOutput(loss, images, texts, inputs)


def _two_passes(
    replica: torch.nn.Module, micro_batches: Iterable[Inputs], settings: Settings, step: int
) -> StepOutput:
    kept_inputs = KeptInputs(memory_between_passes(next(replica.parameters()).device))
    parts = []
    # BatchNorm normalises as in the second pass, but gathers its statistics only there.
    with torch.no_grad(), frozen_statistics(replica):
        for i, inputs in enumerate(micro_batches):
            kept_inputs.append(inputs)
            seed_micro_batch(settings, step, i)
            parts.append(replica(inputs))  # [m, d], [m, d], []
    images, texts = (torch.cat([part[side] for part in parts]) for side in range(2))  # [b, d]
    temperature = parts[0][2].clone()  # []
    m, last = len(parts[0][0]), len(parts) - 1
    del parts
    loss, *by_rows, by_temperature = _loss_gradients(images, texts, temperature, settings)
    once = [torch.zeros_like(temperature)] * last + [by_temperature]
    gradients = zip(*(torch.split(rows, m) for rows in by_rows), once, strict=True)
    for i, (inputs, by_part) in enumerate(zip(kept_inputs, gradients, strict=True)):
        with processes.unsynchronised(replica, i < last):
            seed_micro_batch(settings, step, i)  # the same dropout as in the first pass
            _send_back(replica(inputs), by_part)
    return StepOutput(loss, images, texts, inputs)


def _loss_gradients(
    images: torch.Tensor, texts: torch.Tensor, temperature: torch.Tensor, settings: Settings
) -> tuple[torch.Tensor, ...]:
    """The loss, and its gradients by float[b, d] of images and of texts, and by the temperature.
    Gradients of a loss that is not finite are NaN, and reach all weights of all processes, whatever
    the backward pass through its graph."""
    leaves = [part.detach().requires_grad_() for part in (images, texts, temperature)]
    with full_precision():
        loss = contrastive_loss(*leaves, label_smoothing=settings.label_smoothing)
        gradients = torch.autograd.grad(loss, leaves, 1 + 0 * loss.detach())
    return loss.detach(), *gradients


def _send_back(outputs: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]) -> None:
    """Sends gradients through the graph of a model's outputs; a frozen tower's have none."""
    pairs = zip(outputs, gradients, strict=True)
    trainable = [(out, by) for out, by in pairs if out.requires_grad]
    torch.autograd.backward([out for out, _ in trainable], [by for _, by in trainable])


def memory_between_passes(device: torch.device) -> int:
    """Bytes of pixels that wait in memory: for a GPU's, which are pinned there, a process's share
    of a few GB or of a quarter of the machine; on a CPU none."""
    if device.type != "cuda":
        return 0
    whole = min(_WAITING, memory_of(torch.device("cpu")) // 4)
    return whole // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def seed_micro_batch(settings: Settings, step: int, micro_batch: int) -> None:
    """Another one for each process; of the CPU's generator and of every GPU's."""
    which = f"{settings.seed} {step} {processes.rank()} {micro_batch}"
    torch.manual_seed(zlib.crc32(which.encode()))


class KeptInputs:
    """Micro-batches, to be gone through again. Their pixels wait in memory as long as there is
    `memory` for them, and the others in a temporary file, or memory would grow with the batch
    (16,384 crops of 289 px are 4.1 GB).

    Args:
      memory: bytes. Pixels take the next power of two of them, as pinned memory does.
    """

    def __init__(self, memory: int = 0):
        self._memory = memory
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it ends with this object)
        self._inputs: list[Inputs] = []  # with pixels, or with none for those in the file

    def append(self, inputs: Inputs) -> None:
        self._memory -= 1 << (inputs.pixels.nbytes - 1).bit_length()
        if self._memory < 0:
            np.save(self._file, inputs.pixels.numpy())
            inputs = inputs._replace(pixels=torch.empty(0))
        self._inputs.append(inputs)

    def __iter__(self) -> Iterator[Inputs]:
        self._file.seek(0)
        for inputs in self._inputs:
            if inputs.pixels.numel():
                yield inputs
            else:
                yield inputs._replace(pixels=torch.from_numpy(np.load(self._file)))
