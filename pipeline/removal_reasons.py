"""Why pairs are taken out of a finished dataset, and how a card says it."""

OPT_OUT = "opt_out"
REMOVAL_REASONS = {
    OPT_OUT: "somebody did not want them used",
    "licence": "their licence does not allow it",
    "privacy": "they show or name people",
    "illegal": "they may not be published",
    "duplicate": "they are in the dataset twice",
    "quality": "they were found to be bad",
    "other": "for another reason",
}
