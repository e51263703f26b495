import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.demo import text_rules
from alignset.transforms.columns.pair_columns import UNREADABLE
from alignset.transforms.corpus.remembered import recalled, remembered
from alignset.transforms.pairs.measure_pairs import NGrams, Pairs, measure
from alignset.transforms.pairs.texts import measure_texts
from tests.support.made_batches import (
    in_the_middle,
    ngram_hashes,
    ngrams_by_row,
    pair_batch,
    raw,
    xxh,
    xxh_pair,
)
from tests.support.nasty_texts import captions, urls

anything = st.one_of(st.none(), st.binary(max_size=4), captions)
rows_of_pairs = st.lists(
    st.one_of(
        st.tuples(urls, captions),
        st.tuples(st.one_of(st.none(), st.binary(max_size=4), urls), anything),
    )
)
URL = "http://a.example/b.jpg"


def told(pairs: Pairs) -> list[tuple]:
    """All that is known of each row."""
    measured = [getattr(pairs, name) for name in (*pairs._fields[:6], "word_count")]
    columns = [c.to_pylist() if isinstance(c, pa.Array) else c.tolist() for c in measured]
    return list(zip(*columns, ngrams_by_row(pairs), pairs.exact_hash().tolist(), strict=True))


@given(rows_of_pairs)
def test_what_is_remembered_is_measured_alike(rows: list) -> None:
    batch = pair_batch(rows)
    pairs = measure(batch)
    later = recalled(remembered(pairs, batch))
    texts = measure_texts(later.text, pairs.usable(), later.word_count)
    later = later._replace(ngrams=NGrams(texts.ngrams, texts.first_ngram))
    assert later.word_count.tolist() == texts.word_count.tolist()
    expected = told(pairs._replace(own_url=later.own_url))
    assert told(later) == expected


def test_pages_and_where_a_row_is_stored_are_remembered() -> None:
    batch = pair_batch([(URL, "a dog"), (None, "a cat")])
    columns = {"page_url": ["http://a.example/", None], "source_path": ["a.tar", None]}
    more = pa.record_batch([*batch.columns, *columns.values()], [*batch.schema.names, *columns])
    kept = remembered(measure(more), more)
    page = recalled(kept).page
    assert page is not None
    assert page.to_pylist() == columns["page_url"]
    assert kept["source_path"].to_pylist() == columns["source_path"]
    assert recalled(remembered(measure(batch), batch)).page is None


@pytest.mark.parametrize(
    ("url", "caption", "fault"),
    [
        (URL, "a dog", None),
        (None, "a dog", "no_url"),
        ("", "a dog", "no_url"),
        (" \t", "a dog", "no_url"),
        ("b.jpg", "a dog", "not_http"),
        (URL, None, "no_text"),
        (URL, "", "no_text"),
        (URL, " \n&nbsp;", "no_text"),
        (URL, "-", None),  # no words is another rule's matter
        (URL, b"a \xff dog", "not_utf8"),
        (URL, b"\xed\xa0\x80", "not_utf8"),  # a surrogate
        (URL, b"a dog \xc3", "not_utf8"),
        (b"http://a.example/\xff", "a dog", "not_utf8"),
        (URL, "a \ufffd dog", None),  # is valid UTF-8
        (None, None, "no_url"),
    ],
)
def test_what_makes_a_pair_unusable(
    url: str | bytes | None, caption: str | bytes | None, fault: str | None
) -> None:
    pairs = measure(pair_batch([(URL, "x"), (url, caption), (URL, "y")]))
    assert pairs.malformed.to_pylist() == [None, fault, None]
    assert pairs.usable().tolist() == [True, fault is None, True]
    assert pairs.url.null_count == pairs.text.null_count == 0


def test_a_source_says_what_it_could_not_read() -> None:
    batch = pair_batch([(URL, "a dog"), (URL, "a dog"), (None, "{line")])
    faults = pa.array([None, UNREADABLE, UNREADABLE], pa.string())
    pairs = measure(batch.append_column("malformed", faults))
    assert pairs.malformed.to_pylist() == faults.to_pylist()
    assert pairs.text.to_pylist() == ["a dog", "a dog", "{line"]


@given(rows_of_pairs)
def test_every_column_is_what_the_rules_say_row_by_row(rows: list[tuple]) -> None:
    pairs = measure(pair_batch(rows))
    for column in (pairs.url, pairs.text):
        column.validate(full=True)
    keys = pairs.key.tolist()
    ngrams, counts = ngrams_by_row(pairs), pairs.word_count.tolist()
    for at, row in enumerate(rows):
        identity = text_rules.pair_identity(row)
        assert pairs.usable()[at] == (identity is not None)
        if identity is None:  # one without a text has no words anyway
            assert (counts[at], ngrams[at]) == (0, [])
            continue
        url, text = (raw(value).decode() for value in row)
        assert pairs.url[at].as_py().strip() == url.strip()
        assert pairs.text[at].as_py() == text_rules.kept_text(text)
        assert (pairs.url_hash[at], pairs.text_hash[at]) == tuple(map(xxh, identity))
        assert keys[at] == xxh_pair(*identity)
        assert ngrams[at] == ngram_hashes(identity[1])
        assert counts[at] == len(text_rules.words(identity[1]))


@given(rows_of_pairs, rows_of_pairs)
def test_batches_and_slices_do_not_matter(first: list[tuple], second: list[tuple]) -> None:
    batch = pair_batch(first + second)
    whole = told(measure(batch))
    assert whole == told(measure(pair_batch(first))) + told(measure(pair_batch(second)))
    assert told(measure(batch.slice(len(first)))) == whole[len(first) :]
    middle = [in_the_middle(column) for column in batch.columns]
    assert told(measure(pa.record_batch(middle, names=["url", "caption"]))) == whole


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_every_kind_of_text_column(kind: pa.DataType) -> None:
    rows = [(URL, "A  dog"), (None, None), (URL, "é")]
    batch = pair_batch(rows)
    cast = pa.record_batch(
        [column.cast(kind) for column in batch.columns], names=["url", "caption"]
    )
    assert told(measure(cast)) == told(measure(batch))


def test_nulls_that_lie_over_bytes_are_empty() -> None:
    whole = pair_batch([(URL, "a dog"), (URL, "a cat")])
    hidden = [
        pa.BinaryArray.from_buffers(pa.binary(), 2, [pa.py_buffer(b"\x01"), *c.buffers()[1:]])
        for c in whole.columns
    ]
    pairs = measure(pa.record_batch(hidden, names=["url", "caption"]))
    assert pairs.malformed.to_pylist() == [None, "no_url"]
    assert pairs.text.to_pylist() == ["a dog", ""]
