"""Settings of fetching, and the closed list of failures."""

import math
from dataclasses import dataclass

from alignset.transforms.opt_outs.opt_out_settings import TOKEN, OptOutSettings, setting

NAMED_STATUSES = (400, 401, 403, 404, 405, 406, 410, 429, 451, 500, 502, 503, 504)
FETCH_DETAILS = frozenset(
    {
        *("dns", "refused", "unreachable", "timeout", "reset", "cut_off", "too_large"),
        *("tls", "tls_expired", "tls_wrong_name", "tls_unknown_issuer"),
        *("bad_url", "forbidden_address", "bad_redirect", "too_many_redirects"),
        "bad_encoding",  # the answer's content-encoding is unknown or broken
        "challenge",  # a page that lets browsers pass, and no robots
        "bad_answer",  # what came is not a HTTP, or breaks its rules
        "no_robots_txt",  # the host has a robots.txt that could not be had, and so allows nothing
        "host_refuses",  # the host refused its first images, and is left alone for this run
        "deadline",  # the shard's time was over
        "input_gone",  # an image that lies in a shard of the input, which cannot be read any more
        "sparse_or_link",  # an image that a tar of the input has so, which is not read
        *(f"http_{status}" for status in NAMED_STATUSES),
        *("http_2xx", "http_3xx", "http_4xx", "http_5xx", "http_other"),
    }
)
REFUSALS = frozenset({"http_403", "http_429", "challenge"})
GONE = frozenset({"http_404", "http_410"})  # the host says that there is no such image


@dataclass(frozen=True)
class FetchSettings(OptOutSettings):
    """How to fetch, and what not to. The command's flags are derived from these fields."""

    connections: int = setting(
        4096, "fetches under way at once, a worker, at most; fewer where more is vain"
    )
    connections_per_host: int = setting(8, "fetches under way at once from one host, at most")
    requests_per_second_per_host: float = setting(
        0.0, "requests to begin a second to one host, at most; 0: any"
    )
    timeout_s: float = setting(30.0, "seconds an attempt may take, with its redirects")
    idle_timeout_s: float = setting(
        10.0, "seconds a response may stand still (under 100 bytes a second)"
    )
    connect_timeout_s: float = setting(5.0, "seconds to find a host, and as many to connect to it")
    shard_timeout_s: float = setting(
        3600.0, "seconds the fetches of a shard may take; the rest fails as deadline"
    )
    retries: int = setting(2, "further attempts after a 429, a 5xx or a lost connection")
    max_retry_after_s: float = setting(
        60.0, "seconds to wait at a host's Retry-After; a longer one ends the attempts"
    )
    max_host_failures: int = setting(
        20, "attempts in a row without a response, after which a host is left alone; 0: never"
    )
    max_image_bytes: int = setting(20_000_000, "bytes of an image's file, at most")
    max_redirects: int = setting(5, "redirects to follow, at most")
    user_agent: str = setting(
        "alignset/0.3 (collects images with alt-texts)", "who the fetcher says that it is"
    )
    contact: str = setting(
        "", "where a host's owner reaches you, a page or an address; in user_agent"
    )
    allow_private_addresses: bool = setting(False, "fetch from loopback and private addresses too")
    proxies_from_environment: bool = setting(
        False,
        "fetch through http_proxy and https_proxy; only the proxy then sees, and must "
        "check, where a host's name leads",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("connections", "connections_per_host", "max_image_bytes"):
            self._check(name, getattr(self, name) >= 1, ">= 1")
        for name in ("retries", "max_redirects", "max_host_failures"):
            self._check(name, getattr(self, name) >= 0, ">= 0")
        for name in ("timeout_s", "idle_timeout_s", "connect_timeout_s", "shard_timeout_s"):
            self._check(name, 0 < getattr(self, name) < math.inf, "> 0")
        for name in ("requests_per_second_per_host", "max_retry_after_s"):
            self._check(name, 0 <= getattr(self, name) < math.inf, ">= 0")
        for name in ("user_agent", "contact"):
            value = getattr(self, name)
            readable = value.isascii() and (value.isprintable() or not value)
            self._check(name, readable, "of printable ASCII characters")

    @property
    def said_user_agent(self) -> str:
        """`user_agent` with the given token and contact, where it lacks them."""
        agent, token = self.user_agent, self.user_agent_token
        lacks = token != TOKEN and token.lower() not in agent.lower()
        more = [token] if lacks else []
        more += [f"+{self.contact}"] if self.contact and self.contact not in agent else []
        return f"{agent} ({'; '.join(more)})" if more else agent
