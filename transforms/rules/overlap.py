"""Copies of evaluation images (ALIGN, section 3 and appendix A)."""

from alignset.transforms.rules.rule import Limit, Measure, Stage

MIN_EVALUATION_DISTANCE = Limit(
    name="min_evaluation_distance",
    default=-1.0,
    help="distance to the nearest evaluation image, at least, in the measure's unit; -1: the "
    "measure's default",
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
    range=(0, 64),
    allows="from 0 to 64, or -1 for the measure's own",
    auto=-1,
)
