"""Texts with an n-gram that is not among the most frequent (ALIGN, section 3, "rare tokens")."""

from alignset.transforms.rules.rule import OfCorpus

VOCABULARY_SIZE = OfCorpus(
    name="vocabulary_size",
    default=100_000_000,
    help="most frequent unigrams and bigrams to keep; a text with any other is dropped",
    reason="rare_token",
    step="rare_tokens",
    means="a unigram or bigram is not in the vocabulary",
    makes="vocabulary",
    of=lambda rows, ngrams: rows["has_ngram_outside"](ngrams, rows.alive),
    costly=True,
    opened=1_000_000_000_000,
    brief="most frequent words and pairs of words",
    instead="--vocabulary_size, or --vocabulary of a larger dataset",
)
