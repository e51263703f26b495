"""Which pairs are held out: the same for all texts of an image, whatever else is in the dataset."""

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.pairs.hold_out import held_out, held_out_share

URLS = pa.array([f"https://h{n % 7}.org/{n}.jpg" for n in range(20_000)])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 1.0])
def test_the_share_of_images(share: float):
    held = held_out(URLS, share)
    spread = np.sqrt(len(URLS) * share * (1 - share))
    assert abs(held.sum() - len(URLS) * share) <= 4 * spread


def test_one_side_however_a_url_is_written_and_whatever_is_beside_it():
    held = held_out(URLS, 0.1)
    written = pa.array([url.replace("https://h", "HTTPS://H") + "#x" for url in URLS.to_pylist()])
    assert (held_out(written, 0.1) == held).all()
    assert (held_out(URLS.slice(500, 9), 0.1) == held[500:509]).all()


def test_a_larger_share_holds_what_a_smaller_one_does():
    small, large = held_out(URLS, 0.01), held_out(URLS, 0.05)
    assert small.any()
    assert (large[small]).all()


@pytest.mark.parametrize(
    ("holdout", "kept", "share"),
    [(0.01, 5, 0.01), (1, 100, 0.01), (500, 1000, 0.5), (500, 100, 1.0), (500, 0, 1.0)],
)
def test_a_number_of_pairs_is_a_share_of_them(holdout: float, kept: int, share: float):
    assert held_out_share(holdout, kept) == share


def test_no_pairs():
    assert len(held_out(pa.array([], pa.string()), 0.5)) == 0
