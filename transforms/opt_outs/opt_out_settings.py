"""Which opt-outs of owners are honoured, and how."""

import re
from dataclasses import dataclass
from functools import partial

from alignset.settings import Checked, matching, one_of, setting
from alignset.transforms.opt_outs.crawler_names import ALL_CRAWLERS

TOKEN = "alignset"
MODES = ("reject", "report")
_DIRECTIVES = matching(r"[A-Za-z_,\s\"'\[\]-]*", "directives, comma-separated, or empty")
_image_setting = partial(setting, step="images")
_page_setting = partial(setting, step="images", needs="")  # where no image is fetched too


@dataclass(frozen=True)
class OptOutSettings(Checked):
    """Which opt-outs are honoured. The command's flags are derived from these fields."""

    user_agent_token: str = _page_setting(
        TOKEN,
        "your name in robots.txt, X-Robots-Tag and the meta elements of pages",
        allowed=matching(r"[A-Za-z0-9_.-]+", "of letters, digits, '-', '_' and '.'"),
    )
    robots_txt: bool = _image_setting(True, "fetch only what each host's robots.txt allows")
    disallowed_header_directives: str = _image_setting(
        "noai,noimageai,noml,noindex,noimageindex",
        "use no image with one of these in X-Robots-Tag",
        allowed=_DIRECTIVES,
    )
    disallowed_page_directives: str = _page_setting(
        "noai,noimageai,noml,noimageindex",
        "use no page with one of these in its meta element robots or its X-Robots-Tag",
        allowed=_DIRECTIVES,
    )
    tdm_reservation: bool = _page_setting(
        True, "use nothing whose response or page states tdm-reservation: 1"
    )
    tdmrep_json: bool = _image_setting(
        False,
        "read /.well-known/tdmrep.json too, one request per host; use nothing that it reserves",
    )
    content_usage: str = _page_setting(
        "train-ai,train-genai",
        "use nothing whose response or robots.txt states Content-Usage n for one of these",
        allowed=matching(
            r"[a-z0-9_.*-]*(,[a-z0-9_.*-]+)*", "categories, comma-separated, or empty"
        ),
    )
    content_signal: str = _page_setting(
        "ai-train",
        "use nothing whose response or robots.txt states Content-Signal no for one of these: "
        "ai-train, ai-input, search",
        allowed=matching(r"[a-z-]*(,[a-z-]+)*", "signals, comma-separated, or empty"),
    )
    rsl: bool = _image_setting(
        True,
        "read the RSL licence files that robots.txt, pages and responses name; use nothing that "
        "they do not license for training without payment",
    )
    also_obey: str = _image_setting(
        "CCBot,img2dataset,Google-Extended,Applebot-Extended",
        "use nothing that robots.txt forbids one of these crawlers by name; all: each in "
        "transforms/opt_outs/crawler_names.py",
        allowed=matching(
            r"([A-Za-z0-9_.-]+(, *[A-Za-z0-9_.-]+)*)?", "names, comma-separated, all, or empty"
        ),
    )
    xmp_data_mining: bool = _image_setting(
        True, "use no image whose XMP has a prohibiting value of plus:DataMining"
    )
    c2pa: bool = _image_setting(True, "use no image whose C2PA manifest does not allow training")
    opt_outs: str = _page_setting(
        "reject",
        "reject opted-out pairs, or report: fetch and keep them, with the column opted_out",
        allowed=one_of(MODES),
    )

    evidence: bool = _image_setting(
        True,
        "keep what hosts state, as it was read, in evidence/ and images/ (docs/politeness.md)",
        decides=False,
    )

    def check(self) -> None:
        if self.tdmrep_json and not self.tdm_reservation:
            raise ValueError("tdmrep_json asks for what tdm_reservation=false ignores; pass one")

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

    @property
    def signal_categories(self) -> frozenset[str]:
        """The signals of Content-Signal that are honoured."""
        return frozenset(filter(None, self.content_signal.split(",")))

    @property
    def obeyed_crawlers(self) -> tuple[str, ...]:
        """The names of other crawlers whose rules in a robots.txt count."""
        if self.also_obey.lower() == "all":
            return ALL_CRAWLERS
        return tuple(filter(None, map(str.strip, self.also_obey.split(","))))


def directives_of(flag: str) -> frozenset[str]:
    """The directives in a flag's value, img2dataset's lists among them, in lower case."""
    return frozenset(re.findall(r"[a-z_-]+", flag.lower()))
