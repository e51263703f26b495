import pytest

from alignset.transforms.wishes.robots_tags import has_directive
from alignset.transforms.wishes.wish_settings import WishSettings


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("noai", True),
        ("NoImageAI", True),
        ("nofollow, noindex", True),
        ("noimageindex", True),
        ("alignset: noai", True),
        ("AlignSet: nofollow, noai", True),
        ("otherbot: noai", False),
        ("otherbot: noai, alignset: noindex", True),
        ("alignset: all, otherbot: noai", False),
        ("unavailable_after: 25 Jun 2026 15:00:00 PST, noai", True),
        ("unavailable_after: 25 Jun 2026 15:00:00 GMT+01:00, noai", True),
        ("unavailable_after: 2026-06-25T15:00Z, noai", True),
        ("index\u00a0noai", True),
        ("index，noai", True),
        ("otherbot:\u00a0noai", False),
        ("unavailable_after: Fri, 25 Jun 2027 15:00:00 GMT, noai", True),
        ("unavailable_after: Friday, 25-Jun-27 15:00:00 UTC, noai", True),
        ("otherbot: unavailable_after: Fri, 25 Jun 2027 15:00:00 GMT, noai", False),
        ("360spider: noai", False),
        ("None", True),
        ("otherbot: none", False),
        ("max-snippet: 20", False),
        ("nofollow", False),
        ("nofollow noai", True),
        ("nofollow;noai", True),
        ("noai/", True),
        ("otherbot: nofollow noai", False),
        ("index max-snippet:-1, noai", True),
        ("max-image-preview:large noai", True),
        ("max-image-preview : none", False),
        ("unavailable_after: 2027-06-25 15:00:00 noai", True),
        ("noaix, xnoai, no-ai, noa i", False),
        ("", False),
    ],
)
def test_directives(value: str, said: bool) -> None:
    assert has_directive(value, "alignset", WishSettings().directives) == said


@pytest.mark.parametrize(
    ("directives", "said"),
    [
        ({"noindex"}, True),
        ({"nofollow"}, True),
        ({"none"}, True),
        ({"noai", "noimageindex"}, False),
        (set(), False),
    ],
)
def test_none_is_noindex_and_nofollow_and_no_more(directives: set[str], said: bool) -> None:
    assert has_directive("none", "alignset", directives) == said
