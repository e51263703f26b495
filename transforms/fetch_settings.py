"""What a user may set about fetching, and the closed set of ways in which a fetch fails."""

import math
from dataclasses import dataclass, field

NAMED_STATUSES = (400, 401, 403, 404, 405, 406, 410, 429, 451, 500, 502, 503, 504)
FETCH_DETAILS = frozenset(
    {
        *("dns", "refused", "unreachable", "tls", "timeout", "reset", "cut_off", "too_large"),
        *("bad_url", "forbidden_address", "bad_redirect", "too_many_redirects"),
        "bad_encoding",  # the answer's content-encoding is unknown or broken
        "bad_answer",  # what came is no HTTP, or breaks its rules
        *(f"http_{status}" for status in NAMED_STATUSES),
        *("http_2xx", "http_3xx", "http_4xx", "http_5xx", "http_other"),
    }
)


@dataclass(frozen=True)
class FetchSettings:
    """How to fetch. The command's flags are derived from these fields."""

    connections: int = field(default=64, metadata={"help": "fetches under way at once, a worker"})
    connections_per_host: int = field(
        default=8, metadata={"help": "fetches under way at once from one host, at most"}
    )
    timeout_s: float = field(
        default=10.0, metadata={"help": "seconds an attempt may take, with its redirects"}
    )
    connect_timeout_s: float = field(
        default=5.0, metadata={"help": "seconds to find a host and to connect to it"}
    )
    retries: int = field(
        default=2, metadata={"help": "further attempts after a 429, a 5xx or a lost connection"}
    )
    max_image_bytes: int = field(
        default=20_000_000, metadata={"help": "bytes of an image's file, at most"}
    )
    max_redirects: int = field(default=5, metadata={"help": "redirects to follow, at most"})
    user_agent: str = field(
        default="alignset/0.1 (collects images with alt-texts)",
        metadata={"help": "who the fetcher says that it is; add how to reach you"},
    )
    allow_private_addresses: bool = field(
        default=False, metadata={"help": "fetch from loopback and private addresses too"}
    )

    def __post_init__(self) -> None:
        for name in ("connections", "connections_per_host", "max_image_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1; got {getattr(self, name)}")
        for name in ("retries", "max_redirects"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0; got {getattr(self, name)}")
        for name in ("timeout_s", "connect_timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be > 0; got {getattr(self, name)}")
        if not (self.user_agent.isascii() and self.user_agent.isprintable()):
            raise ValueError(
                f"user_agent must be of printable ASCII characters; got {self.user_agent!r}"
            )
