"""URLs as browsers read and send them, and which addresses are public.

Source: https://url.spec.whatwg.org/
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

import can_ada

_MAX_HOST = 1024  # characters, with a user's name: a DNS name has 253
_NO_BREAKS = {9: None, 10: None, 13: None}
_HOST = re.compile(
    r"([\x00-\x20]*+(?:(?:https?|wss?|ftp|file):[/\\]*+|[/\\]{2,}+))([^/\\?#]*+)", re.I
)


def parse_url(url: str, base: can_ada.URL | None = None) -> can_ada.URL | None:
    """Parses a URL, relative to another if that is given.

    Returns:
      None where the standard's parser fails, or the host is four times as long as any name: to
      write other letters in ASCII takes the square of their number.
    """
    if len(url) > _MAX_HOST or "ẞ" in url:
        url = url.translate(_NO_BREAKS)
        if match := _HOST.match(url):
            before, host = match.groups()
            if len(host) >= _MAX_HOST:
                return None
            # UTS 46 maps it to ß since Unicode 15.1, and can_ada to ss.
            url = before + host.replace("ẞ", "ß") + url[match.end() :]
    try:
        return can_ada.parse(url) if base is None else base + url
    except (ValueError, TypeError):  # of a lone surrogate
        return None


# A URL of these characters alone goes out as it is; nearly all do, and this check takes 1 µs. A
# last label that begins with a digit may be of an address.
_PLAIN_URL = re.compile(
    r"https?://(?=[a-z0-9._-]{1,253}/)(?:[a-z0-9_-]*\.)*+[a-z_-][a-z0-9_-]*+"
    r"/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*(?:\?[A-Za-z0-9._~%!$&()*+,;=:@/?-]*)?"
)
_SENT_HOST = re.compile(r"[a-z0-9._-]{1,253}|\[[0-9a-f:.]+\]")
# Segments that name no folder, but this one and the one above. curl takes them off, so they must be
# off before robots.txt is asked.
_DOTS = re.compile(r"/(?:\.|%2e){1,2}(?:[/?]|$)", re.I)
_SURROGATE = re.compile("[\ud800-\udfff]")

# Other services may take a request for theirs (https://fetch.spec.whatwg.org/#bad-port).
_BAD_PORTS = frozenset(
    map(
        str,
        (
            *(0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87),
            *(95, 101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143),
            *(161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556),
            *(563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190),
            *(5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080),
        ),
    )
)

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
    """Writes a URL in the form that is sent, by the URL standard.

    Spaces and other letters are percent-encoded as UTF-8, the host is in IDNA's ASCII form or an
    address, user name, password, fragment and the scheme's own port are gone.

    Returns: An absolute http or https URL in ASCII; None for other URLs, and for ports of other
      services.
    """
    if _PLAIN_URL.fullmatch(url) and not _DOTS.search(url):
        return url
    target = parse_url(_SURROGATE.sub("\ufffd", url))
    if target is None or target.protocol not in ("http:", "https:"):
        return None
    if target.port in _BAD_PORTS or not _SENT_HOST.fullmatch(target.hostname):
        return None
    target.username = target.password = target.hash = ""
    return target.href


def origin_of(url: str) -> str:
    """The origin of a URL as `request_url` gives it."""
    return url[: url.index("/", len("https://"))]


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
    ipv4 = ip.ipv4_mapped or ip.sixtofour
    if ip in _NAT64:
        ipv4 = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ipv4 is not None:
        return is_public_address(str(ipv4))
    return ip in _IPV6_GLOBAL_UNICAST and ip.is_global and not any(ip in net for net in _REFUSED)
