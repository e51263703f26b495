"""Which opt-outs of owners are honoured, and how."""

import re
from dataclasses import dataclass, field
from typing import Any

TOKEN = "alignset"
MODES = ("reject", "report")


def setting(default: Any, help: str, **how: str) -> Any:
    """A field whose flag has this default and help, and what else its parser knows of it."""
    return field(default=default, metadata={"help": help, **how})


@dataclass(frozen=True)
class OptOutSettings:
    """Which opt-outs are honoured. The command's flags are derived from these fields."""

    user_agent_token: str = setting(
        TOKEN, "your name in robots.txt, X-Robots-Tag and the meta elements of pages"
    )
    robots_txt: bool = setting(True, "fetch only what each host's robots.txt allows")
    disallowed_header_directives: str = setting(
        "noai,noimageai,noml,noindex,noimageindex",
        "an image with one of these in X-Robots-Tag is not used; empty: any is",
    )
    disallowed_page_directives: str = setting(
        "noai,noimageai,noml,noimageindex",
        "no pair is taken from a page with one of these in its meta element robots or "
        "its X-Robots-Tag; empty: from any page",
    )
    tdm_reservation: bool = setting(
        True, "use nothing whose response or page states tdm-reservation: 1"
    )
    tdmrep_json: bool = setting(
        False,
        "read each host's /.well-known/tdmrep.json too, and use nothing that it "
        "reserves; one more request a host",
    )
    content_usage: str = setting(
        "train-ai,train-genai",
        "categories of Content-Usage, in responses and in robots.txt; what states n for one "
        "of these is not used; empty: any is",
    )
    xmp_data_mining: bool = setting(
        True, "use no image whose XMP has a prohibiting value of plus:DataMining"
    )
    c2pa: bool = setting(True, "use no image whose C2PA manifest does not allow training")
    opt_outs: str = setting(
        "reject",
        "reject pairs that their owner has opted out, or report them: fetch and keep them, "
        "with the kinds of opt-out in the column opted_out",
    )

    def __post_init__(self) -> None:
        token = re.fullmatch(r"[A-Za-z0-9_.-]+", self.user_agent_token)
        self._check("user_agent_token", bool(token), "of letters, digits, '-', '_' and '.'")
        self._check("opt_outs", self.opt_outs in MODES, f"one of {', '.join(MODES)}")
        for name in ("disallowed_header_directives", "disallowed_page_directives"):
            plain = re.fullmatch(r"[A-Za-z_,\s\"'\[\]-]*", getattr(self, name))
            self._check(name, bool(plain), "directives, comma-separated, or empty")
        categories = re.fullmatch(r"[a-z0-9_.*-]*(,[a-z0-9_.*-]+)*", self.content_usage)
        self._check("content_usage", bool(categories), "categories, comma-separated, or empty")
        if self.tdmrep_json and not self.tdm_reservation:
            raise ValueError("tdmrep_json asks for what tdm_reservation=false ignores; pass one")

    def _check(self, name: str, holds: bool, must_be: str) -> None:
        if not holds:
            raise ValueError(f"{name} must be {must_be}; got {getattr(self, name)!r}")

    @property
    def rejects(self) -> bool:
        """Whether what is not wanted is dropped, and not only reported."""
        return self.opt_outs == "reject"

    @property
    def directives(self) -> frozenset[str]:
        """The X-Robots-Tag directives of images that are honoured, in lower case."""
        return directives_of(self.disallowed_header_directives)

    @property
    def page_directives(self) -> frozenset[str]:
        """The directives of pages that are honoured, in lower case."""
        return directives_of(self.disallowed_page_directives)

    @property
    def usage_categories(self) -> frozenset[str]:
        """The categories of Content-Usage that are honoured."""
        return frozenset(filter(None, self.content_usage.split(",")))


def directives_of(flag: str) -> frozenset[str]:
    """The directives in a flag's value, img2dataset's lists among them, in lower case."""
    return frozenset(re.findall(r"[a-z_-]+", flag.lower()))
