"""Settings of fetching, and the closed list of failures."""

from dataclasses import dataclass
from functools import partial

from alignset.settings import Allowed, above, between, setting
from alignset.transforms.opt_outs.opt_out_settings import TOKEN, OptOutSettings

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
        "no_license",  # it names a licence file that could not be had for now
        "no_tdmrep_json",  # the same of that file, which `recheck` alone counts
        "host_refuses",  # the host refused its first images, and is left alone for this run
        "deadline",  # the shard's time was over
        "input_gone",  # an image that lies in a shard of the input, which cannot be read any more
        "sparse_or_link",  # an image that a tar of the input has so, which is not read
        *(f"http_{status}" for status in NAMED_STATUSES),
        *("http_2xx", "http_3xx", "http_4xx", "http_5xx", "http_other"),
    }
)
# What may have passed in a second. A host without a name rarely gets one, so "dns" is not here.
TRANSIENT = frozenset({"timeout", "refused", "unreachable", "reset", "cut_off", "http_429"}) | {
    detail for detail in FETCH_DETAILS if detail.startswith("http_5")
}
REFUSALS = frozenset({"http_403", "http_429", "challenge"})
GONE = frozenset({"http_404", "http_410"})  # the host says that there is no such image


# How fast, and with how many attempts; other settings decide whether a URL can be had at all.
_how = partial(setting, step="images", decides=False)
_seconds = partial(_how, allowed=above(0))
_COUNT, _AT_LEAST_0 = between(1), between(0)
_READABLE = Allowed(
    "of printable ASCII characters",
    lambda text: text.isascii() and (text.isprintable() or not text),
)


@dataclass(frozen=True)
class FetchSettings(OptOutSettings):
    """How to fetch, and what not to. The command's flags are derived from these fields."""

    connections: int = _how(
        4096,
        "fetches at once per worker, at most; fewer where more would not help",
        brief="fetches at once",
        allowed=_COUNT,
    )
    connections_per_host: int = _how(8, "fetches at once from one host, at most", allowed=_COUNT)
    requests_per_second_per_host: float = _how(
        0.0, "requests per second to one host, at most; 0: any", allowed=_AT_LEAST_0
    )
    timeout_s: float = _seconds(30.0, "seconds an attempt may take, with its redirects")
    idle_timeout_s: float = _seconds(
        10.0, "seconds at under 100 bytes per second, after which a response fails"
    )
    connect_timeout_s: float = _seconds(5.0, "seconds to find a host, and as many to connect to it")
    shard_timeout_s: float = _seconds(
        3600.0, "seconds the fetches of a shard may take; the rest fails as deadline"
    )
    retries: int = _how(
        2, "further attempts after a 429, a 5xx or a lost connection", allowed=_AT_LEAST_0
    )
    max_retry_after_s: float = _how(
        60.0,
        "seconds to wait at a host's Retry-After; a longer one ends the attempts",
        allowed=_AT_LEAST_0,
        needs="images retries",
    )
    max_failed_share: float = _how(
        1.0,
        "share of fetches that may fail; where more do, the command ends with status 1",
        allowed=between(0, 1, "0 to 1"),
    )
    max_host_failures: int = _how(
        20,
        "attempts in a row without a response, after which a host is left alone; 0: never",
        allowed=_AT_LEAST_0,
    )
    max_image_bytes: int = setting(
        20_000_000, "bytes of an image's file, at most", allowed=_COUNT, step="images"
    )
    max_redirects: int = setting(
        5, "redirects to follow, at most", allowed=_AT_LEAST_0, step="images"
    )
    user_agent: str = setting(
        "alignset/0.3 (collects images with alt-texts)",
        "the header User-Agent",
        allowed=_READABLE,
        step="images",
    )
    images_from: str = setting(
        "",
        "OUT,...: datasets whose images are not fetched again (docs/how_to/publish.md)",
        needs="images",
        decides=False,
    )
    contact: str = _how(  # which the card names without images too
        "",
        "where a host's owner reaches you, a URL or a mail address; added to user_agent",
        brief="where a host's owner reaches you",
        allowed=_READABLE,
        needs="",
    )
    allow_private_addresses: bool = setting(
        False, "fetch from loopback and private addresses too", step="images"
    )
    proxies_from_environment: bool = _how(
        False,
        "fetch through http_proxy and https_proxy; only the proxy can then refuse private "
        "addresses",
    )

    @property
    def known_folders(self) -> list[str]:
        """The datasets of `images_from`."""
        return [path.rstrip("/") for path in self.images_from.split(",") if path]

    @property
    def said_user_agent(self) -> str:
        """`user_agent` with the given token and contact, where it lacks them."""
        agent, token = self.user_agent, self.user_agent_token
        lacks = token != TOKEN and token.lower() not in agent.lower()
        more = [token] if lacks else []
        more += [f"+{self.contact}"] if self.contact and self.contact not in agent else []
        return f"{agent} ({'; '.join(more)})" if more else agent
