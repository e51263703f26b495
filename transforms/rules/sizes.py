"""Images that are too small or too elongated (ALIGN, section 3)."""

import math

from alignset.transforms.rules.rule import Limit, Measure, Stage

MIN_SIDE = Limit(
    name="min_image_side",
    default=200,
    help="px; the shorter side must be larger than this",
    words="Shorter side, px, larger than",
    keeps=">",
    measure=Measure(
        axis="side",
        label="Shorter side of the image, px",
        short="shorter side, px",
        of=lambda rows: rows["shorter"],
        edges=(
            *range(16, 208, 16),
            *(208, 224, 240, 256, 288, 320, 352, 384, 448, 512, 640, 768, 1024, 1536, 2048),
        ),
        whole=True,
        unit=" px",
    ),
    reason="too_small",
    step="size",
    stage=Stage.HEADER,
    means="the shorter side of the image is too short",
    opened=0,
    brief="px; the shorter side must be larger",
    looser=("A smaller least side", 0.8),
)
MAX_ASPECT = Limit(
    name="max_image_aspect",
    default=3.0,
    help="longer side / shorter side must be smaller than this",
    words="Longer side / shorter side, smaller than",
    keeps="<",
    measure=Measure(
        axis="aspect",
        label="Longer side / shorter side",
        short="longer side / shorter side",
        of=lambda rows: rows["longer"],
        over=lambda rows: rows["shorter"],
        edges=(1.1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 10),
        least=1.0,
    ),
    reason="too_elongated",
    step="size",
    stage=Stage.HEADER,
    means="the image is too long for its width, or too wide for its height",
    opened=1e9,
    range=(math.nextafter(1, 2), math.inf),
    allows="> 1, or no image passes",
)
