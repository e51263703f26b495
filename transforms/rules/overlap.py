"""Copies of evaluation images (ALIGN, section 3 and appendix A)."""

from alignset.transforms.rules.rule import Limit, Measure, Stage

COPY_DISTANCE = 0.25  # what is nearer to an evaluation image is a copy: docs/overlap.md
MIN_EVALUATION_DISTANCE = Limit(
    name="min_evaluation_distance",
    default=COPY_DISTANCE,
    help="distance to the nearest evaluation image, at least",
    words="Distance to an evaluation image, at least",
    keeps=">=",
    measure=Measure(
        axis="distance",
        label="Distance to the nearest evaluation image",
        short="distance to an evaluation image",
        of=lambda rows: rows["evaluation_distance"],
        column="evaluation_distance",
        edges=(0.25, 0.5, 0.75, 1.25, 1.5, 1.75, 2.0),
        scaled=True,
        missing=" {:,} more have no evaluation image near, or were not compared.",
    ),
    reason="evaluation_overlap",
    step="evaluation",
    stage=Stage.PIXELS,
    means="the image is too near to an evaluation image",
    range=(0, 2),
    allows="from 0 to 2",
    needs="eval_images",
)
