"""The gradients of one step: in one pass or, for a batch larger than memory, in two.

In two (GradCache: Gao et al., 2021, "Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup"): first embed all pairs, a few at a time, without a graph. The loss of the whole
batch gives the gradient of each embedding. Then embed the same few pairs again, now with a graph,
and send that gradient back through it. The sum over all is the gradient of the one pass.
"""

import zlib
from collections.abc import Iterable, Sequence

import torch

from alignset.train.data.batches import Inputs
from alignset.train.loss import contrastive_loss
from alignset.train.model.tower_layers import frozen_statistics
from alignset.train.runs import processes
from alignset.train.runs.processes import full_precision
from alignset.train.runs.progress import StepOutput
from alignset.train.settings import Settings


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
    outputs = replica(inputs)  # [b, d], [b, d], [] or [2]
    images, texts, scale = (part.detach() for part in outputs)
    loss, *gradients = _loss_gradients(images, texts, scale, settings)
    _send_back(outputs, gradients)
    return StepOutput(loss, images, texts, inputs)


def _two_passes(
    replica: torch.nn.Module, micro_batches: Iterable[Inputs], settings: Settings, step: int
) -> StepOutput:
    kept_inputs, parts = list(micro_batches), []
    # BatchNorm normalises as in the second pass, but gathers its statistics only there.
    with torch.no_grad(), frozen_statistics(replica):
        for i, inputs in enumerate(kept_inputs):
            seed_micro_batch(settings, step, i)
            parts.append(replica(inputs))  # [m, d], [m, d], [] or [2]
    images, texts = (torch.cat([part[side] for part in parts]) for side in range(2))  # [b, d]
    scale = parts[0][2].clone()  # [] or [2]
    m, last = len(parts[0][0]), len(parts) - 1
    del parts
    loss, *by_rows, by_scale = _loss_gradients(images, texts, scale, settings)
    once = [torch.zeros_like(scale)] * last + [by_scale]
    gradients = zip(*(torch.split(rows, m) for rows in by_rows), once, strict=True)
    # Behind a frozen text tower the projection learns; behind a frozen image tower there is none.
    known = torch.split(images, m) if settings.freeze == "image" else [None] * (last + 1)
    for i, (inputs, by_part) in enumerate(zip(kept_inputs, gradients, strict=True)):
        with processes.unsynchronised(replica, i < last):
            seed_micro_batch(settings, step, i)  # the same dropout as in the first pass
            _send_back(replica(inputs, known[i]), by_part)
    return StepOutput(loss, images, texts, inputs)


def _loss_gradients(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, settings: Settings
) -> tuple[torch.Tensor, ...]:
    """The loss, and its gradients by float[b, d] of images and of texts, and by the scale.
    Gradients of a loss that is not finite are NaN, and reach all weights of all processes, whatever
    the backward pass through its graph."""
    leaves = [part.detach().requires_grad_() for part in (images, texts, scale)]
    *rows, scale = leaves
    with full_precision():
        scales = scale.unbind() if scale.ndim else (scale,)
        loss = contrastive_loss(*rows, *scales, label_smoothing=settings.label_smoothing)
        gradients = torch.autograd.grad(loss, leaves, 1 + 0 * loss.detach())
    return loss.detach(), *gradients


def _send_back(outputs: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]) -> None:
    """Sends gradients through the graph of a model's outputs; a frozen tower's have none."""
    pairs = zip(outputs, gradients, strict=True)
    trainable = [(out, by) for out, by in pairs if out.requires_grad]
    torch.autograd.backward([out for out, _ in trainable], [by for _, by in trainable])


def seed_micro_batch(settings: Settings, step: int, micro_batch: int) -> None:
    """Another one for each process; of the CPU's generator and of every GPU's."""
    which = f"{settings.seed} {step} {processes.rank()} {micro_batch}"
    torch.manual_seed(zlib.crc32(which.encode()))
