"""Links: what a URL's parameters ask for."""

import numpy as np
import pytest
from starlette.datastructures import QueryParams

from alignset.train.search.query import Filters
from alignset.train.search.serve import parse_query, picture_name, picture_vector
from tests.support.closeness import close

pytestmark = pytest.mark.numeric

DIGEST = "0123456789abcdef" * 4


def unit(seed: int, width: int = 640) -> np.ndarray:
    row = np.random.default_rng(seed).normal(size=width).astype(np.float32)
    return row / np.linalg.norm(row)


@pytest.mark.parametrize("width", [1, 2, 3, 32, 640])
def test_a_picture_is_its_embedding_to_a_byte_a_dimension(width: int) -> None:
    for seed in range(5):
        vector = unit(seed, width)
        name = picture_name(vector, DIGEST)
        assert name.isascii()
        assert len(name) < 1000
        back = picture_vector(name, DIGEST, width)
        assert close(np.linalg.norm(back), 1.0, terms=width)
        assert float(back @ vector) > 0.9999


def test_a_link_has_the_terms_in_order_with_their_weights() -> None:
    picture = picture_name(unit(1), DIGEST)
    parameters = QueryParams(
        [
            ("text", "a dog"),
            ("text_weight", "1"),
            ("text", "snow & ice"),
            ("text_weight", "-0.5"),
            ("key", "red/0.jpg"),
            ("picture", picture),
            ("picture_weight", "2"),
            ("host", "a.example"),
            ("min_side", "200"),
            ("fold", "false"),
            ("offset", "24"),
        ]
    )
    asked = parse_query(parameters, DIGEST, 640)
    terms = [(term.kind, term.value, term.weight) for term in asked.query.terms]
    assert terms == [
        ("text", "a dog", 1.0),
        ("text", "snow & ice", -0.5),
        ("key", "red/0.jpg", 1.0),
        ("picture", picture, 2.0),
    ]
    assert asked.query.filters == Filters(host="a.example", min_side=200)
    assert (asked.query.fold, asked.offset, asked.limit) == (False, 24, 24)
