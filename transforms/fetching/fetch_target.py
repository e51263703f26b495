"""Where a request may go: URLs in the form that browsers send, and addresses that are public."""

import ipaddress
import re
from functools import lru_cache
from urllib.parse import quote, unquote

import can_ada
import idna

# A URL of these characters alone goes out as it is; nearly all do, and this check takes 1 µs.
_PLAIN_URL = re.compile(
    r"https?://[a-z0-9._-]{1,253}/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*"
    r"(?:\?[A-Za-z0-9._~%!$&()*+,;=:@/?-]*)?"
)
_ANY_URL = re.compile(r"(https?):[/\\]{2,}([^/\\?#]*)([^?#]*)(\?[^#]*)?(?:#.*)?", re.I | re.S)
_HOST_AND_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:]+)(?::([0-9]*))?", re.S)
_ASCII_HOST = re.compile(r"[a-z0-9._-]{1,253}")
# Segments that name no folder, but this one and the one above. curl takes them off, so they must be
# off before robots.txt is asked.
_DOTS = re.compile(r"/(?:\.|%2e){1,2}(?:[/?]|$)", re.I)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST_HOST = 1024  # characters before they are mapped, some of which may come to nothing
_SURROGATE = re.compile("[\ud800-\udfff]")
_C0_AND_SPACE = "".join(map(chr, range(0x21)))
_SAFE_IN_PATH = "%/:@!$&'()*+,;=[]|~"
_SAFE_IN_QUERY = "%/:@!$&()*+,;=[]|~?`{}^\\"

_IPV6_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_REFUSED = (
    ipaddress.IPv4Network("168.63.129.16"),  # Azure's host agent: secrets, on a public address
    # Special by IANA's registry; whether `is_global` knows them depends on Python's patch release.
    ipaddress.IPv4Network("192.0.0.0/24"),
    ipaddress.IPv6Network("2001::/23"),  # Teredo is in here
    ipaddress.IPv6Network("3fff::/20"),
)


def request_url(url: str) -> str | None:
    """The URL in the form that goes on the wire, as the WHATWG's URL rules have it, or None.

    Spaces and other letters are percent-encoded as UTF-8, the host is in IDNA's ASCII form (UTS 46,
    as browsers map it), user name, password, fragment and the scheme's own port are gone.

    Returns:
      An absolute http or https URL in ASCII; None where `url` is no such URL.
    """
    if _PLAIN_URL.fullmatch(url) and not _DOTS.search(url):
        return url
    cleaned = url.strip(_C0_AND_SPACE).translate({9: None, 10: None, 13: None})
    matched = _ANY_URL.fullmatch(_SURROGATE.sub("\ufffd", cleaned))
    if not matched:
        return None
    scheme, authority, path, query = matched.groups()
    host_and_port = _HOST_AND_PORT.fullmatch(authority.rpartition("@")[2])
    if not host_and_port:
        return None
    scheme = scheme.lower()
    host, own_port = _ascii_host(host_and_port[1]), _DEFAULT_PORTS[scheme]
    port = int(host_and_port[2].lstrip("0")[:6] or 0) if host_and_port[2] else own_port
    if host is None or port not in range(1, 65536):
        return None
    path = quote(path.replace("\\", "/") or "/", safe=_SAFE_IN_PATH)
    if _DOTS.search(path):
        path = can_ada.parse(f"http://a{path}").pathname
    query = quote(query or "", safe=_SAFE_IN_QUERY)
    return f"{scheme}://{host}{'' if port == own_port else f':{port}'}{path}{query}"


def _ascii_host(host: str) -> str | None:
    if len(host) > _LONGEST_HOST:
        return None
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host[1:-1])
            return host
        # `idna.encode` would refuse hosts that browsers open, such as those with an emoji.
        mapped = idna.uts46_remap(unquote(host), std3_rules=False, transitional=False)
    except (idna.IDNAError, ValueError):
        return None
    labels = mapped.split(".")
    # The ASCII form is no shorter, and to make it takes the square of a label's length.
    if len(mapped) > 253 or any(len(one) > 63 and not one.isascii() for one in labels):
        return None
    ascii_host = ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")
        for label in labels
    )
    return ascii_host if _ASCII_HOST.fullmatch(ascii_host) else None


@lru_cache(maxsize=65536)
def is_public_address(address: str) -> bool:
    """Whether the whole internet may reach this IP address.

    False for loopback, private, link-local (metadata services), shared, reserved and multicast
    addresses; and for IPv6 addresses that lead to such an IPv4 address (mapped, 6to4, NAT64) or are
    Teredo's.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not ip.is_multicast and not any(ip in net for net in _REFUSED)
    carried = ip.ipv4_mapped or ip.sixtofour
    if ip in _NAT64:
        carried = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if carried is not None:
        return is_public_address(str(carried))
    return ip in _IPV6_GLOBAL_UNICAST and ip.is_global and not any(ip in net for net in _REFUSED)
