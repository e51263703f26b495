"""The copy descriptor's net, and its loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OUTPUTS = 96  # before whitening, which leaves 64
TEMPERATURE = 0.06
CONTRAST_FLOOR = 25.0  # grey levels, squared: the noise of flat planes is not blown up
SPREAD_WEIGHT = 2.0


class Convolution(nn.Sequential):
    """A convolution, batch normalisation, and a rectifier unless told."""

    def __init__(
        self, inputs: int, outputs: int, side: int, stride: int, *, is_rectified: bool = True
    ) -> None:
        convolution = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)
        rectifier = nn.ReLU() if is_rectified else nn.Identity()
        super().__init__(convolution, nn.BatchNorm2d(outputs), rectifier)


class CopyNet(nn.Module):
    """Planes of 64 x 64 to unit vectors of 96, by 369 thousand parameters and 4.6 M products.

    It sees a plane four times at half the size: 32 x 32 to 4 x 4, which a linear layer reads whole.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            Convolution(1, 16, 5, 2), Convolution(16, 32, 3, 2), Convolution(32, 64, 3, 2)
        )
        self.residual = nn.Sequential(
            Convolution(64, 64, 3, 1), Convolution(64, 64, 3, 1, is_rectified=False)
        )
        self.last = Convolution(64, 128, 3, 2)
        self.linear = nn.Linear(128 * 4 * 4, OUTPUTS)
        self.norm = nn.BatchNorm1d(OUTPUTS, affine=False)

    def forward(self, planes: Tensor) -> Tensor:
        """float32[n, 1, 64, 64] of 0 to 255 to float32[n, 96]."""
        centered = planes - planes.mean((2, 3), keepdim=True)
        variances = (centered * centered).mean((2, 3), keepdim=True)
        features = self.stem(centered / (variances + CONTRAST_FLOOR).sqrt())
        features = F.relu(features + self.residual(features))
        outputs = self.norm(self.linear(self.last(features).flatten(1)))
        return F.normalize(outputs.float())


def copy_loss(faithful: Tensor, altered: Tensor, past: Tensor) -> Tensor:
    """How far copies are from their pictures, as against other pictures, and how crowded all are.

    Args:
      faithful, altered: float32[n, d], unit vectors of pictures and of their copies.
      past: float32[m, d], unit vectors of pictures of earlier steps: more to be told from.

    Source: InfoNCE (van den Oord et al., 2018), by copy among pictures and by picture among copies
    and pictures; the differential entropy of spreading vectors (Sablayrolles et al., 2019).
    """
    count = len(faithful)
    own = torch.arange(count)
    among_pictures = altered @ torch.cat([faithful, past]).T / TEMPERATURE
    others = torch.cat([altered, faithful.detach()])
    itself = torch.cat([torch.zeros(count, count), torch.full((count,), 1e4).diag()], 1)
    among_copies = faithful @ others.T / TEMPERATURE - itself
    nearest = (faithful @ faithful.T - 4 * torch.eye(count)).max(1).values
    crowding = -(2 - 2 * nearest).clamp_min(1e-6).sqrt().log().mean()
    return (
        F.cross_entropy(among_pictures, own)
        + 0.5 * F.cross_entropy(among_copies, own)
        + SPREAD_WEIGHT * crowding
    )
