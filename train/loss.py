"""ALIGN's loss, two softmaxes over all pairs of the global batch (section 4.1); and SigLIP's, a
sigmoid of each pair."""

from functools import partial

import torch
import torch.nn.functional as F
from torch.autograd.function import FunctionCtx
from torch.utils.checkpoint import checkpoint

from alignset.train.runs import processes

# Rows of scores that are in memory at once: 4 matrices of 512 x 16,384 floats are 128 MiB, where
# whole ones would be 4 GiB.
ROWS_AT_ONCE = 512


class _GatherRows(torch.autograd.Function):
    """Rows of all processes, in rank order; the gradient of a row flows back from every process."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: torch.Tensor) -> torch.Tensor:  # [b, d] -> [b * world, d]
        return processes.gather_rows(rows)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: torch.Tensor) -> torch.Tensor:  # -> float[b, d]
        # Each process's loss has our rows among its negatives: sum what all of them say.
        return processes.sum_rows(gradient)


def contrastive_loss(
    images: torch.Tensor,
    texts: torch.Tensor,
    temperature: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    label_smoothing: float = 0.1,
) -> torch.Tensor:
    """Mean of the image-to-text and the text-to-image cross-entropy; with a bias SigLIP's loss.

    Args:
      images, texts: float[b, d], L2-normalised; row i of both is one pair. With torch.distributed
        initialised, b rows of each process; the candidates are the rows of all of them.
      temperature: float[], > 0; cosines are divided by it.
      bias: float[], added to each score; each of the n * n pairs is then judged by itself, whether
        its two are one.
      label_smoothing: share of the softmax's target that is spread evenly over all candidates.

    Returns:
      float[]: the mean over this process's rows. Its average over processes, which is what DDP
      makes of gradients, is the loss of the global batch.

    Source: ALIGN (Jia et al., 2021), equations 1 and 2. The paper adds the two directions; we take
    their mean, as transformers' AlignModel and open_clip do. SigLIP: Zhai et al. (2023), algorithm
    1; the sum over a row's pairs, and the mean over rows.
    """
    b, first = len(images), len(images) * processes.rank()
    all_images, all_texts = images, texts  # float[n, d], n = b * processes
    if processes.is_grouped():
        all_images, all_texts = _GatherRows.apply(images), _GatherRows.apply(texts)
    target = torch.arange(first, first + b, device=images.device)  # int64[b]

    cross_entropy = partial(F.cross_entropy, label_smoothing=label_smoothing, reduction="sum")

    def rows_loss(
        images: torch.Tensor, texts: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:  # of r rows: float[]
        image_to_text = images @ all_texts.T / temperature  # float[r, n]
        if bias is not None:
            signs = torch.full_like(image_to_text, -1).scatter(1, target[:, None], 1)
            return -F.logsigmoid(signs * (image_to_text + bias)).sum() / b
        text_to_image = texts @ all_images.T / temperature  # float[r, n]
        total = cross_entropy(image_to_text, target) + cross_entropy(text_to_image, target)
        return total / (2 * b)

    parts = list(
        zip(*(torch.split(whole, ROWS_AT_ONCE) for whole in (images, texts, target)), strict=True)
    )
    if len(parts) == 1:
        return rows_loss(*parts[0])
    # The backward pass computes the scores anew, so that one part's lie in memory at a time.
    first_loss, *losses = (checkpoint(rows_loss, *part, use_reentrant=False) for part in parts)
    return sum(losses, first_loss)
