"""Images of a shard that are stored already are read from where they are."""

from pathlib import Path

import pyarrow as pa

from alignset.transforms.fetching.fetch import Fetched
from alignset.transforms.shards.image_places import stored_bodies


def test_stored_images_are_read_in_any_order_and_what_is_gone_costs_itself(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"0123456789")
    (tmp_path / "b").write_bytes(b"abcdefghij")
    places = [("b", 4, 3), ("a", 0, 10), ("b", 0, 2), ("a", 9, 1), ("b", 3, 0)]
    places += [("b", 8, 3), ("none", 0, 1), ("a", 0, 11), ("a", -1, 0)]
    columns = {
        "source_path": [str(tmp_path / name) for name, _, _ in places],
        "source_at": [at for _, at, _ in places],
        "source_size": [size for _, _, size in places],
    }
    bodies = sorted(stored_bodies(pa.table(columns), 10), key=lambda fetched: fetched.index)
    assert bodies == [
        *(
            Fetched(row, body, None)
            for row, body in enumerate([b"efg", b"0123456789", b"ab", b"9", b""])
        ),
        Fetched(5, None, "input_gone"),
        Fetched(6, None, "input_gone"),
        Fetched(7, None, "too_large"),
        Fetched(8, None, "sparse_or_link"),
    ]
