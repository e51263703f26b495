"""How many pairs a concept may have, about: fewer of what is frequent (after Xu et al., 2023,
arXiv 2309.16671, "balancing")."""

from alignset.transforms.rules.rule import OfCorpus

MAX_PAIRS_PER_CONCEPT = OfCorpus(  # where it is above 0 alone
    name="max_pairs_per_concept",
    default=0,
    help="pairs to keep, about, of a word or word pair that occurs more often; 0 balances nothing",
    reason="frequent_concepts",
    step="balance",
    means="its words and pairs of words are [frequent](balance.md), and its key's hash was not "
    "chosen; this step is there with `--max_pairs_per_concept` alone",
    makes="concepts",
    of=lambda rows, counts: rows["is_beyond_concepts"](counts, rows.alive),
    costly=True,
    range=(0, float("inf")),
    allows=">= 0",
    opened=0,
)
