import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.columns.web_urls import is_public_address, request_url
from alignset.transforms.fetching.host_queue import FetchJob

SENT = {
    "http://a.example/b.jpg": "http://a.example/b.jpg",
    "http://a.example": "http://a.example/",
    "HTTPS://A.Example:8443/X?y=Z#f": "https://a.example:8443/X?y=Z",
    "  http://a.example/a b\n.jpg ": "http://a.example/a%20b.jpg",
    "http://a.example/é/100%/%20": "http://a.example/%C3%A9/100%/%20",
    "http://a.example/?q=<ü '>": "http://a.example/?q=%3C%C3%BC%20%27%3E",
    "http:\\\\a.example\\b": "http://a.example/b",
    "http://user:secret@a.example/b": "http://a.example/b",
    "http://faß.example/": "http://xn--fa-hia.example/",
    "http://１２７.0.0.1/": "http://127.0.0.1/",
    "http://a.example:80/b": "http://a.example/b",
    "https://a.example:80/b": "https://a.example:80/b",
    "http://[::FFFF:1.2.3.4]/b": "http://[::ffff:102:304]/b",
    "http://0x7F.1/": "http://127.0.0.1/",
    "http://2130706433/x": "http://127.0.0.1/x",
    "http://127.0.0.1./": "http://127.0.0.1/",
    "http://1.2.3.4.example/": "http://1.2.3.4.example/",
    "http://a.1b/": "http://a.1b/",
    "http://a.example/\ud800": "http://a.example/%EF%BF%BD",
    "http://a.example/x/../b/./c/.?q=/../": "http://a.example/b/c/?q=/../",
    "http://a.example/x/%2E./b/..": "http://a.example/",
    "http://a.example/..;/...%2e/.b": "http://a.example/..;/...%2e/.b",
    "http://a.example//x/..//b": "http://a.example///b",
}
REFUSED = (
    *("", "a.example/b", "//a.example/b", "ftp://a.example/", "file:///etc/passwd", "http:"),
    *("data:image/png;base64,AAAA", "javascript:0", "http://:80/b", "gopher://a/", "http://a b/"),
    *("http://a.example:99999/", "http://a.example:b/", "http://a.example:0/", "http://[::1/"),
    *("http://[1.2.3.4]/", "http://[.]/b", "http://[fe80::1%25eth0]/", "http://a.example%00/"),
    *(f"http://a.example:{port}/b" for port in ("22", "25", "025", "6667", "10080")),
    "http://a.example:" + "8" * 10_000,
    *(f"http://{letter * 254}/" for letter in "a\u00e9\u00ad\u0f73"),
    *(f"http://{letter * 2000}.example/" for letter in ("a", "\u00ad", "%C2%AD")),
    *("http://1.2.3.256/", "http://foo.0x4/", "http://a.1", "http://a.１/", "http://4294967296/"),
)


def test_the_url_that_is_sent() -> None:
    assert {url: request_url(url) for url in SENT} == SENT
    assert {url: request_url(url) for url in REFUSED} == dict.fromkeys(REFUSED)
    longest_label = request_url("http://" + "\u00e9" * 63 + ".example/")
    assert longest_label is not None
    assert longest_label.startswith("http://xn--")


@given(st.sampled_from(["", "http://", "https://a.example/", "http://["]), st.text())
def test_any_string_gives_printable_ascii_or_none_and_cleaning_twice_is_once(
    a: str, b: str
) -> None:
    sent = request_url(a + b)
    if sent is not None:
        assert sent.isascii()
        assert sent.isprintable()
        assert " " not in sent
        assert request_url(sent) == sent


PUBLIC = (
    *("8.8.8.8", "1.1.1.1", "100.63.255.255", "172.32.0.1", "2606:4700::1111"),
    *("::ffff:8.8.8.8", "2002:808:808::1", "64:ff9b::808:808"),
)
NOT_PUBLIC = (
    *("0.0.0.0", "127.0.0.1", "127.255.0.1", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192"),
    *("198.18.0.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
    *("255.255.255.255", "168.63.129.16", "::", "::1", "fe80::1", "fe80::1%eth0"),
    *("fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "3fff::1"),
    *("::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::7f00:1", "2002:7f00:1::"),
    *("2002:a00:1::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808"),
    *("2001:0:808:808::1", "100::1", "4000::1", "no-address"),
)


def test_which_addresses_are_public() -> None:
    assert [address for address in PUBLIC if not is_public_address(address)] == []
    assert [address for address in NOT_PUBLIC if is_public_address(address)] == []


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_as_public_in_each_ipv6_form(ip: ipaddress.IPv4Address) -> None:
    public = is_public_address(str(ip))
    for form in (
        (0xFFFF << 32) + int(ip),
        (0x2002 << 112) + (int(ip) << 80) + 1,
        int(ipaddress.IPv6Address("64:ff9b::")) + int(ip),
    ):
        assert is_public_address(str(ipaddress.IPv6Address(form))) == public


def test_a_host_is_one_however_a_url_writes_it():
    urls = ["http://a.example/", "http://a.example:80/", "https://a.example:443/"]
    urls += ["http://a.example./", "https://a.example.:443/", "http://A.example.:80/"]
    sent = [request_url(url) for url in urls]
    assert {FetchJob(0, url, url).host for url in sent} == {"a.example"}
    assert FetchJob(0, "", "http://a.example.:81/").host == "a.example:81"
