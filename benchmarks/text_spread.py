"""How the words of the synthetic corpus are spread: Zipf's law, Heaps' law, how many are distinct.

  python benchmarks/text_spread.py [--pairs=2000000]

Counts words (unigrams) and neighbouring words (bigrams), as duckdb_rules.py takes texts apart.
Heaps' law: n running words have about n ** beta distinct ones; beta is taken between a quarter of
the pairs and all of them. Zipf's law: the word of rank r stands there about r ** -s times; s is
taken between ranks 10 and 10,000, where there are so many.
"""

import argparse
import math
from typing import Any

import duckdb_rules
from results import print_results
from text_plane import add_flags, corpus_of

KINDS = {
    "unigrams": "list_transform(words, lambda word: hash(word))",
    "bigrams": "list_transform(range(1, len(words)), lambda i: hash(words[i], words[i + 1]))",
}
# One row for each distinct n-gram: how often it is there, and how early.
COUNT = """
CREATE OR REPLACE TEMP TABLE ngrams AS
SELECT ngram, count(*) AS n, min(id) AS first
FROM (SELECT id, unnest({kind}) AS ngram FROM pairs) GROUP BY ngram
"""
GROWTH = """
SELECT count(*), sum(n)::BIGINT, count(*) FILTER (n = 1), max(n),
  count(*) FILTER (first <= $part) FROM ngrams
"""
RANKS = """
SELECT n FROM ngrams ORDER BY n DESC LIMIT 1 OFFSET $rank
"""


def spread(connection: Any, kind: str, pairs: int) -> dict[str, Any]:
    """The figures of one kind of n-gram over the rows of `pairs`."""
    connection.execute(COUNT.format(kind=KINDS[kind]))
    part = max(1, pairs // 4)
    row = connection.execute(GROWTH, {"part": part}).fetchone()
    distinct, running, once, most, early = row
    counts = [connection.execute(RANKS, {"rank": rank}).fetchone() for rank in (9, 9_999)]
    many = all(counts)
    return {
        "n-grams": kind,
        "running": running,
        "distinct": distinct,
        "once": once,
        "most frequent": most,
        "beta": math.log(distinct / early) / math.log(pairs / part),
        "s": math.log(counts[0][0] / counts[1][0]) / math.log(10_000 / 10) if many else "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2_000_000)
    add_flags(parser, repeats=1)
    flags = parser.parse_args()
    corpus = corpus_of(flags.cache, flags.pairs)
    connection = duckdb_rules.connect_pairs(str(corpus))
    usable = connection.execute("SELECT count(*) FROM pairs").fetchone()[0]
    rows = [spread(connection, kind, usable) for kind in KINDS]
    figures = {"benchmark": "text_spread", "pairs": flags.pairs, "spread": rows}
    print_results(rows, figures, ("duckdb", "numpy", "pyarrow"))


if __name__ == "__main__":
    main()
