"""What is left of a ledger when pairs have left its shard."""

import numpy as np
import pyarrow as pa

from alignset.transforms.columns.records import LEDGER, key_column
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.shards.leaving_pairs import LEAVING, Leaving
from alignset.transforms.shards.rewrite_shards import rest_of_ledger

# Two pairs of each of six images; the last two were dropped.
URLS = [f"http://a/{number}" for number in range(6)]
IMAGES = url_hashes(pa.array(URLS))[0].tolist()
WHY = {  # by pair: of image n these are 2 n and 2 n + 1
    0: ("taken_down", "mine:text"),  # and the other pair of its image stays
    **{2: ("taken_down", "mine:key"), 3: ("duplicate_image", "00")},
    4: ("taken_down", "mine:url"),
    **{6: ("duplicate_image", "00"), 7: ("duplicate_image", "00")},
    8: ("taken_down", "mine:sha256"),
    10: ("taken_down", "mine:text"),
}


def test_what_an_owner_had_taken_out_leaves_its_hash_and_the_reason() -> None:
    keys = np.arange(12, dtype=np.uint64)
    urls = pa.array([URLS[key // 2] for key in keys])
    hashes = pa.array([f"of {key // 2}" for key in keys])
    pairs = pa.table({"key": key_column(keys), "url": urls, "sha256": hashes})
    rows = [
        {"image": image, "key": f"{2 * n:016x}", "sha256": f"of {n}", "final_url": URLS[n]}
        for n, image in enumerate(IMAGES)
    ]
    for row in rows[4:]:
        row |= {"key": None, "reason": "too_small"}
    leaving = [
        {"key": key, "reason": reason, "detail": detail, "near": False}
        for key, (reason, detail) in WHY.items()
    ]
    leaving = Leaving(pa.Table.from_pylist(leaving, LEAVING))
    kept, dropped = pairs.slice(0, 8), pairs.slice(8)
    ledger = pa.Table.from_pylist(rows, LEDGER)
    staying = leaving.rest_of(kept)
    left = rest_of_ledger(ledger, (kept, dropped), staying, leaving)
    found = {row.pop("image"): row for row in left.to_pylist()}
    assert {*found} == {*IMAGES} - {IMAGES[1], IMAGES[5]}  # by a text or a key alone
    assert found[IMAGES[0]]["key"] == f"{1:016x}"  # the file of the pair that stays
    for image, detail in ((2, "mine:url"), (4, "mine:sha256")):
        there = {name: value for name, value in found[IMAGES[image]].items() if value is not None}
        assert there == {"reason": "taken_down", "detail": detail}
    assert found[IMAGES[3]]["key"] is None
    assert found[IMAGES[3]]["sha256"] == "of 3"
    again = rest_of_ledger(left, (staying, dropped), staying, leaving)  # as after a kill
    assert again.equals(left)
