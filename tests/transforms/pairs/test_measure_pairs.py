from random import Random

import pyarrow as pa
import pytest

from alignset.transforms.columns.pair_columns import UNREADABLE
from alignset.transforms.corpus.remembered import recalled, remembered
from alignset.transforms.pairs.measure_pairs import measure
from tests.fuzz import texts
from tests.fuzz.texts import told
from tests.support.made_batches import pair_batch

URL = "http://a.example/b.jpg"


def test_every_column_is_what_the_rules_say_however_rows_are_placed_and_later_too() -> None:
    """Also languages, rare n-grams, and what is remembered, of nasty texts."""
    for seed in range(150):
        texts.check(Random(seed))


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
