"""Which dropped pairs a takedown makes unreadable."""

import pyarrow as pa

from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.shards.listed_pairs import LISTED, listed_rejects


def test_dropped_pairs_of_what_is_taken_down_are_not_read_again():
    """A looser rule, or another fetch, would bring them back."""
    urls = [f"http://a.org/{n}" for n in range(1, 6)]
    images = url_hashes(pa.array(urls))[0].tolist()
    listed = pa.Table.from_pylist(
        [
            {"key": 7, "detail": "a.txt:sha256", "image": images[0]},  # all pairs of an image
            {"key": 8, "detail": "a.txt:text", "image": 0},  # one pair
        ],
        LISTED,
    )
    rows = {
        "key": [f"{key:016x}" for key in (7, 17, 8, 18, 9, 19, 20)],
        "url": [urls[0], urls[0], urls[1], urls[1], *urls[2:]],
        "caption": ["a text"] * 7,
        "detail": [None] * 5 + [f"{key:016x}" for key in (7, 8)],  # of whose image it is a copy
    }
    details = listed_rejects(pa.RecordBatch.from_pydict(rows), Blocklists(), listed)
    assert details.to_pylist() == ["a.txt:sha256"] * 2 + [
        "a.txt:text",
        None,
        None,
        "a.txt:sha256",
        None,
    ]
