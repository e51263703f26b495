"""Which opt-outs of owners are honoured, and how."""

import re
from dataclasses import dataclass
from functools import partial

from alignset.settings import Checked, matching, one_of, setting

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
        "an image with one of these in X-Robots-Tag is not used; empty: any is",
        allowed=_DIRECTIVES,
    )
    disallowed_page_directives: str = _page_setting(
        "noai,noimageai,noml,noimageindex",
        "no pair is taken from a page with one of these in its meta element robots or "
        "its X-Robots-Tag; empty: from any page",
        allowed=_DIRECTIVES,
    )
    tdm_reservation: bool = _page_setting(
        True, "use nothing whose response or page states tdm-reservation: 1"
    )
    tdmrep_json: bool = _image_setting(
        False,
        "read each host's /.well-known/tdmrep.json too, and use nothing that it "
        "reserves; one more request a host",
    )
    content_usage: str = _page_setting(
        "train-ai,train-genai",
        "categories of Content-Usage, in responses and in robots.txt; what states n for one "
        "of these is not used; empty: any is",
        allowed=matching(
            r"[a-z0-9_.*-]*(,[a-z0-9_.*-]+)*", "categories, comma-separated, or empty"
        ),
    )
    xmp_data_mining: bool = _image_setting(
        True, "use no image whose XMP has a prohibiting value of plus:DataMining"
    )
    c2pa: bool = _image_setting(True, "use no image whose C2PA manifest does not allow training")
    opt_outs: str = _page_setting(
        "reject",
        "reject pairs that their owner has opted out, or report them: fetch and keep them, "
        "with the kinds of opt-out in the column opted_out",
        allowed=one_of(MODES),
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


def directives_of(flag: str) -> frozenset[str]:
    """The directives in a flag's value, img2dataset's lists among them, in lower case."""
    return frozenset(re.findall(r"[a-z_-]+", flag.lower()))
