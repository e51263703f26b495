"""What URLs ask for, in one form whatever way they are written."""

import pyarrow as pa
import pytest

from alignset.transforms.blocklists.targets import target_of, targets


def one_by_one(urls: list[str]) -> list[tuple[str, str]]:
    """Host and rest of each, as `targets` has them."""
    made = targets(pa.array(urls, pa.string()))
    data = made.data.tobytes()
    spans = zip(made.starts, made.host_ends, made.stops, strict=True)
    return [(data[a:b].decode(), data[b:c].decode()) for a, b, c in spans]


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://a.example/b.jpg", ("a.example", "/b.jpg")),
        ("HTTP://A.Example:80/B.jpg#part", ("a.example", "/B.jpg")),
        ("http://a.example:443/", ("a.example", ":443/")),
        ("https://a.example:00080/", ("a.example", ":80/")),
        ("http://me:secret@a.example./b", ("a.example", "/b")),
        ("http://a.example?q", ("a.example", "/?q")),
        ("http://a%2eexample/x/../%62/./c", ("a.example", "/b/c")),
        ("http://a.example/%7euser%2fx%C3%a9", ("a.example", "/~user%2Fx%C3%A9")),
        ("http://a.example/a b'é", ("a.example", "/a%20b'%C3%A9")),
        ("http://ａ.EXAMPLE\\b", ("a.example", "/b")),
        ("http://bücher.example/", ("xn--bcher-kva.example", "/")),
        ("http://0x1.02.3.4:80/", ("1.2.3.4", "/")),
        ("http://[::0:1]:8080/", ("[::1]", ":8080/")),
        ("http://[::0:1]:0/", ("[::1]", "/")),  # which cannot be asked for, and yet is a pair's URL
        ("http://[.]/x", None),
        ("http:/A.example/x", ("a.example", "/x")),
        ("ftp://a.example/", None),
        ("http:///x", ("x", "/")),  # as browsers have it
        ("http://", None),
        ("http://a.example:99999/", None),
    ],
)
def test_target_of_a_url(url: str, target: tuple[str, str] | None) -> None:
    assert target_of(url) == target
    assert one_by_one(["http://x.example/", url, "http://y.example/"])[1] == (target or ("", ""))


def test_a_target_of_what_is_no_text() -> None:
    assert target_of("http://a.example/\ud800") == ("a.example", "/?")


def test_hosts_that_no_resolver_takes_have_no_end() -> None:
    long = "a" * 300 + ".example"
    for url in (f"http://{long}/x", "http://" + "a" * 1_000_000, "http://" + "1." * 500_000 + "/"):
        target_of(url)
        one_by_one([url])


def test_no_urls_and_a_slice() -> None:
    assert one_by_one([]) == []
    column = pa.array(["http://a/", "http://b:8/", "http://c/"]).slice(1)
    made = targets(column)
    assert made.data[made.starts[1] : made.stops[1]].tobytes() == b"c/"
