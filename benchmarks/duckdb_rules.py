"""The text rules in DuckDB's SQL, as a command: the other side of text_stage.py.

  python benchmarks/duckdb_rules.py CORPUS.parquet KEPT.parquet VOCABULARY_SIZE

The SQL knows only what text_corpus.py writes: its marks, its entity, spaces and no other white
space. It is as quick as we could make it: identities are counted by their 64-bit hashes, dear
expressions run only on the rows that need them, and no regular expression runs on all texts.
"""

import sys

import duckdb

THREADS = 2

PAIRS = r"""
CREATE TEMP TABLE pairs AS
WITH raw AS (
  SELECT trim(url) AS url,
    CASE WHEN contains(caption, '&') OR contains(caption, '  ') OR caption[1] = ' '
         OR caption[-1] = ' '
      THEN trim(regexp_replace(replace(caption, '&amp;', '&'), ' +', ' ', 'g'))
      ELSE caption END AS caption
  FROM read_parquet(?)
), usable AS (
  SELECT url, caption, lower(caption) AS identity,
    CASE WHEN regexp_full_match(url, 'https?://[a-z0-9.-]+/[^#]*') THEN url
      ELSE regexp_replace(regexp_extract(lower(url), '^https?://[^/?#]+'), ':443$', '')
        || regexp_extract(url, '^[^:]+://[^/?#]+([^#]*)', 1) END AS url_identity
  FROM raw
  WHERE caption <> '' AND (starts_with(url, 'http') OR starts_with(url, 'HTTP'))
)
SELECT row_number() OVER () AS id, url, caption,
  hash(url_identity) AS url_hash, hash(identity) AS text_hash,
  CASE WHEN contains(identity, ',') OR contains(identity, '&') THEN list_filter(
      list_transform(string_split(identity, ' '), lambda word: trim(word, ',&')),
      lambda word: word <> '')
    ELSE string_split(identity, ' ') END AS words
FROM usable
"""

NGRAMS = """
CREATE TEMP TABLE spread AS
SELECT id, unnest(
  list_concat(
    list_transform(words, lambda word: hash(word)),
    list_transform(range(1, len(words)), lambda i: hash(words[i], words[i + 1])))
) AS ngram
FROM pairs;
CREATE TEMP TABLE ngrams AS SELECT ngram, count(*) AS n FROM spread GROUP BY ngram;
"""

# How many n-grams have each count or a higher one; a size among these needs no rule for ties.
SIZES = """
SELECT n, sum(count(*)) OVER (ORDER BY n DESC)::BIGINT AS n_grams FROM ngrams GROUP BY n ORDER BY n
"""

KEPT = f"""
COPY (
  WITH least AS (SELECT min(n) AS n FROM ({SIZES}) WHERE n_grams <= $size),
  rare AS (
    SELECT DISTINCT id FROM spread
    WHERE ngram IN (SELECT ngram FROM ngrams WHERE ngrams.n < (SELECT n FROM least))
  ), frequent AS (
    SELECT text_hash FROM pairs GROUP BY text_hash HAVING count(DISTINCT url_hash) > 10
  ), crowded AS (
    SELECT url_hash FROM pairs GROUP BY url_hash HAVING count(DISTINCT text_hash) > 1000
  ), judged AS (
    SELECT min(id) AS id FROM pairs GROUP BY url_hash, text_hash
  )
  SELECT url, caption FROM pairs
  WHERE len(words) BETWEEN 3 AND 20
    AND id IN (FROM judged)
    AND text_hash NOT IN (FROM frequent)
    AND url_hash NOT IN (FROM crowded)
    AND id NOT IN (FROM rare)
) TO '{{out}}' (FORMAT parquet)
"""


def connect(corpus: str) -> duckdb.DuckDBPyConnection:
    """Reads the corpus, takes its texts apart and counts the n-grams."""
    connection = duckdb.connect(config={"threads": THREADS})
    connection.execute("SET preserve_insertion_order = false")
    connection.execute(PAIRS, [corpus])
    connection.execute(NGRAMS)
    return connection


def vocabulary_sizes(corpus: str) -> list[int]:
    """The sizes at which the vocabulary is cut between two counts, descending."""
    return [n_grams for _, n_grams in connect(corpus).execute(SIZES).fetchall()]


if __name__ == "__main__":
    source, out, size = sys.argv[1:]
    connect(source).execute(KEPT.format(out=out), {"size": int(size)})
