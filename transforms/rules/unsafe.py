"""Images that a classifier finds unsafe (ALIGN, section 3, removes pornographic images; by which
classifier, and above which score, it does not say)."""

from alignset.transforms.rules.rule import Limit, Measure, Stage

MAX_UNSAFE_SCORE = Limit(
    name="max_unsafe_score",
    default=0.5,
    help="NSFW score of an image, 0 to 1, at most; 1 scores none",
    words="NSFW score, at most",
    keeps="<=",
    measure=Measure(
        axis="unsafe",
        label="Unsafe score",
        short="unsafe score",
        of=lambda rows: rows["unsafe_score"],
        column="unsafe_score",
        edges=(0.01, 0.02, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95),
        missing=" {:,} more were not scored.",
        logarithmic=True,
        blurs=0.5,
    ),
    reason="unsafe",
    step="safety",
    stage=Stage.PIXELS,
    means="a classifier's score is too high ([NSFW scores](safety.md))",
    opened=1.0,
    range=(0, 1),
    allows="from 0 to 1, where 1 scores no image",
    needs="unsafe_model",
)
