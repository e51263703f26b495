"""The gradients of one step: in one pass or, for a batch larger than memory, in two.

In two (GradCache: Gao et al., 2021, "Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup"): first embed all pairs, a few at a time, without a graph. The loss of the whole
batch gives the gradient of each embedding. Then embed the same few pairs again, now with a graph,
and send that gradient back through it. The sum over all is the gradient of the one pass.
"""

import zlib
from collections.abc import Iterable

import torch

from train.data.inputs import Inputs, KeptInputs
from train.loss import contrastive_loss
from train.model.batch_norm import frozen_statistics
from train.runs import processes
from train.runs.progress import StepOutput
from train.settings import Settings


def step_gradients(
    replica: torch.nn.Module, micro_batches: Iterable[Inputs], settings: Settings, step: int
) -> StepOutput:
    """Adds the gradients of the global batch's loss to those of the model.

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
    images, texts, temperature = replica(inputs)  # [b, d], [b, d], []
    loss = contrastive_loss(images, texts, temperature, label_smoothing=settings.label_smoothing)
    torch.autograd.backward(loss, _one_if_finite(loss))
    return StepOutput(loss.detach(), images.detach(), texts.detach(), inputs)


def _two_passes(
    replica: torch.nn.Module, micro_batches: Iterable[Inputs], settings: Settings, step: int
) -> StepOutput:
    with KeptInputs() as kept:
        parts = []
        # BatchNorm normalises as in the second pass, but gathers its statistics only there.
        with torch.no_grad(), frozen_statistics(replica):
            for i, inputs in enumerate(micro_batches):
                kept.append(inputs)
                seed_micro_batch(settings, step, i)
                parts.append(replica(inputs))  # [m, d], [m, d], []
        images = torch.cat([part[0] for part in parts]).requires_grad_()  # [b, d]
        texts = torch.cat([part[1] for part in parts]).requires_grad_()  # [b, d]
        temperature = parts[0][2].clone().requires_grad_()  # []
        m, last = len(parts[0][0]), len(parts) - 1
        del parts
        loss = contrastive_loss(
            images, texts, temperature, label_smoothing=settings.label_smoothing
        )
        torch.autograd.backward(loss, _one_if_finite(loss))  # no further than the embeddings

        once = [torch.zeros_like(temperature)] * last + [_gradient(temperature)]
        of_images, of_texts = (torch.split(_gradient(rows), m) for rows in (images, texts))
        gradients = zip(of_images, of_texts, once, strict=True)
        for i, (inputs, gradient) in enumerate(zip(kept, gradients, strict=True)):
            with processes.unsynchronised(replica, i < last):
                seed_micro_batch(settings, step, i)  # the same dropout as in the first pass
                outputs = zip(replica(inputs), gradient, strict=True)
                trained = [pair for pair in outputs if pair[0].requires_grad]  # no frozen tower's
                torch.autograd.backward([rows for rows, _ in trained], [of for _, of in trained])
    return StepOutput(loss.detach(), images.detach(), texts.detach(), inputs)


def _one_if_finite(loss: torch.Tensor) -> torch.Tensor:
    """The gradient of a loss; of one that is not finite no number, which then reaches all weights
    of all processes, whatever the way back through its graph."""
    return 1 + 0 * loss.detach()


def _gradient(leaf: torch.Tensor) -> torch.Tensor:
    assert leaf.grad is not None  # the loss depends on it
    return leaf.grad


def seed_micro_batch(settings: Settings, step: int, micro_batch: int) -> None:
    """Another one for each process; of the CPU's generator and of every GPU's."""
    which = f"{settings.seed} {step} {processes.rank()} {micro_batch}"
    torch.manual_seed(zlib.crc32(which.encode()))
