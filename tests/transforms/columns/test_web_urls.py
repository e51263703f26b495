import can_ada
import pytest

from alignset.transforms.columns.web_urls import parse_url


@pytest.mark.parametrize(
    ("url", "base", "href"),
    [
        ("http://a.example", "", "http://a.example/"),
        ("http:/a.example/b", "", "http://a.example/b"),
        ("../b", "http://a.example/c/d/e", "http://a.example/c/b"),
        ("http:b", "http://a.example/c/", "http://a.example/c/b"),
        ("//b.example/x", "https://a.example/", "https://b.example/x"),
        ("http://faẞ.de/ẞ", "", "http://xn--fa-hia.de/%E1%BA%9E"),
        ("h\nttp://me@FAẞ.de:8/", "", "http://me@xn--fa-hia.de:8/"),
        ("//faẞ.de", "https://a.example/", "https://xn--fa-hia.de/"),
        ("/ẞ", "https://a.example/", "https://a.example/%E1%BA%9E"),
        ("b", "", None),
        ("", "", None),
        ("http://1.2.3.256.5/", "", None),
        ("//foo.0x4/", "http://a.example/", None),
        ("http://a\ud800b/", "", None),
    ],
)
def test_a_url_and_its_base(url: str, base: str, href: str | None) -> None:
    parsed = parse_url(url, parse_url(base))
    assert (None if parsed is None else parsed.href) == href


@pytest.mark.parametrize("before", ["http://", "\t https:/\\", "//", "h\nttp:", "http://me@"])
@pytest.mark.parametrize("letter", ["a", "é", "ẞ", "\u00ad"])
def test_a_host_that_is_longer_than_any_name(before: str, letter: str) -> None:
    base = can_ada.parse("http://a.example/")
    assert parse_url(before + letter * 1024 + ".example/", base) is None
    assert parse_url(before + "b.example/" + letter * 5000, base) is not None
