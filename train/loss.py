"""ALIGN's loss: two softmaxes over all pairs of the global batch (section 4.1)."""

import torch
import torch.distributed as dist
import torch.nn.functional as F


class _GatherRows(torch.autograd.Function):
    """Rows of all processes, in rank order; the gradient of a row flows back from every process."""

    @staticmethod
    def forward(ctx, rows: torch.Tensor) -> torch.Tensor:  # [b, d] -> [b * world, d]
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:  # -> float[b, d]
        # Each process's loss has our rows among its negatives: sum what all of them say.
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def contrastive_loss(
    images: torch.Tensor,
    texts: torch.Tensor,
    temperature: torch.Tensor,
    *,
    label_smoothing: float = 0.1,
) -> torch.Tensor:
    """Mean of the image-to-text and the text-to-image cross-entropy.

    Args:
      images, texts: float[b, d], L2-normalised; row i of both is one pair. With torch.distributed
        initialised, b rows of each process; the candidates are the rows of all of them.
      temperature: float[], > 0; cosines are divided by it.
      label_smoothing: share of the target that is spread evenly over all candidates.

    Returns:
      float[]: the mean over this process's rows. Its average over processes, which is what DDP
      makes of gradients, is the loss of the global batch.

    Source: ALIGN (Jia et al., 2021), equations 1 and 2. The paper adds the two directions; we take
    their mean, as transformers' AlignModel and open_clip do.
    """
    b, first = len(images), 0
    all_images, all_texts = images, texts  # float[n, d], n = b * processes
    if dist.is_available() and dist.is_initialized():
        first = b * dist.get_rank()
        all_images, all_texts = _GatherRows.apply(images), _GatherRows.apply(texts)
    target = torch.arange(first, first + b, device=images.device)  # int64[b]
    image_to_text = images @ all_texts.T / temperature  # float[b, n]
    text_to_image = texts @ all_images.T / temperature  # float[b, n]
    return (
        F.cross_entropy(image_to_text, target, label_smoothing=label_smoothing)
        + F.cross_entropy(text_to_image, target, label_smoothing=label_smoothing)
    ) / 2
