"""Content-Signal, licence files of RSL, and opt-outs that a robots.txt addresses to other crawlers:
the examples of their texts, odd spellings, and hostile files."""

import sys
from collections.abc import Callable

import pytest

from alignset.transforms.columns.pair_columns import OPT_OUTS, opt_out_kind, ordered_opt_outs
from alignset.transforms.fetching.robots import Robots, read_robots
from alignset.transforms.opt_outs.crawler_names import ALL_CRAWLERS
from alignset.transforms.opt_outs.host_statements import (
    MOST_RULES,
    header_opt_outs,
    license_links,
    license_urls,
    signal_allowed,
)
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.opt_outs.rsl import read_license
from alignset.transforms.pages.page_images import page_words

HOW = OptOutSettings()
TRAIN = frozenset({"ai-train"})


def robots(text: str, how: OptOutSettings = HOW) -> Robots:
    uses = how.usage_categories, how.signal_categories, how.obeyed_crawlers
    return read_robots(text.encode(), None, how.user_agent_token, *uses)


def stated(text: str, path: str = "/x", how: OptOutSettings = HOW) -> tuple[str, ...]:
    return robots(text, how).opt_outs(f"http://a.example{path}")


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("ai-train=no, search=yes, ai-input=yes", False),  # of contentsignals.org
        ("ai-train=yes, search=yes, ai-input=yes", True),
        ("search=yes,ai-train=no,use=reference", False),  # of Cloudflare
        ("search=yes", None),
        ("AI-Train = NO", False),
        ("ai_train=no", False),
        ('search=yes;ai-train="no"', False),
        ("search=yes ai-train=n", False),
        ("search:yes, ai-train:no", False),
        (",, ai-train=no ,", False),
        ("ai-train=yes, ai-train=no", False),  # the most restrictive
        ("ai-train=no|search=yes", False),
        ("ai-train=no&x=y", False),
        ("search=yes/ai-train=no.", False),
        ("\u200bai-train=no", False),
        ("ai-train=false", False),
        ("ai-train: 0", False),
        ("ai-train=maybe", None),
        ("ai-train", None),
        ("xai-train=no", None),
        ("", None),
    ],
)
def test_a_content_signal(statement: str, allowed: bool | None) -> None:
    assert signal_allowed(statement, TRAIN) is allowed
    said = header_opt_outs([f"CONTENT-SIGNAL: {statement}\r\n".encode()], HOW, HOW.directives)
    assert said == (("content_signal",) if allowed is False else ())
    page = page_words("http://p.example/", (f"content-signal: {statement}".encode(),), [], [], HOW)
    assert page.opt_outs == said
    off = OptOutSettings(content_signal="")
    assert header_opt_outs([f"Content-Signal: {statement}".encode()], off, off.directives) == ()


CLOUDFLARE = """# As a condition of accessing this website, you agree to abide by the following
# content signals:

# (a)  If a Content-Signal = yes, you may collect content for the corresponding
#      use.
# (b)  If a Content-Signal = no, you may not collect content for the
#      corresponding use.
# (c)  If the website operator does not include a Content-Signal for a
#      corresponding use, the website operator neither grants nor restricts
#      permission via Content-Signal with respect to the corresponding use.

# The content signals and their meanings are:

# search:   building a search index and providing search results (e.g., returning
#           hyperlinks and short excerpts from your website's contents). Search does not
#           include providing AI-generated search summaries.
# ai-input: inputting content into one or more AI models (e.g., retrieval
#           augmented generation, grounding, or other real-time taking of content for
#           generative AI search answers).
# ai-train: training or fine-tuning AI models.

# ANY RESTRICTIONS EXPRESSED VIA CONTENT SIGNALS ARE EXPRESS RESERVATIONS OF
# RIGHTS UNDER ARTICLE 4 OF THE EUROPEAN UNION DIRECTIVE 2019/790 ON COPYRIGHT
# AND RELATED RIGHTS IN THE DIGITAL SINGLE MARKET.

# BEGIN Cloudflare Managed content

User-agent: *
Content-Signal: search=yes,ai-train=no,use=reference
Allow: /

User-agent: Amazonbot
Disallow: /

User-agent: Applebot-Extended
Disallow: /

User-agent: Bytespider
Disallow: /

User-agent: CCBot
Disallow: /

User-agent: ClaudeBot
Disallow: /

User-agent: CloudflareBrowserRenderingCrawler
Disallow: /

User-agent: Google-Extended
Disallow: /

User-agent: GPTBot
Disallow: /

User-agent: meta-externalagent
Disallow: /

# END Cloudflare Managed Content
"""
PATHS = """User-Agent: *
Content-Signal: /about ai-train=yes, search=yes, ai-input=yes
Content-Signal: /blog/ ai-train=no, search=yes, ai-input=no
Content-Signal: /blog/free search=yes
Allow: /
"""


def named(name: str, rules: str = "Disallow: /") -> str:
    return f"User-agent: *\nAllow: /\n\nUser-agent: {name}\n{rules}\n"


CASES: list[tuple[str, str, tuple[str, ...]]] = [
    (CLOUDFLARE, "/x", (*(f"robots_txt:{n}" for n in ("Applebot-Extended", "CCBot")),)),
    ("User-agent: *\nContent-Signal: ai-train=no", "/x", ("content_signal",)),
    ("user-agent:*\ncontent-SIGNAL :ai-train = no # now", "/x", ("content_signal",)),
    ("User-agent: b\nContent-Signal: ai-train=no\n\nUser-agent: *\nAllow: /", "/x", ()),
    ("User-agent: *\nContent-Signal: ai-train=no\nUser-agent: alignset\nAllow: /", "/x", ()),
    ("User-agent: *\nContent-Signal: ai-input=no", "/x", ()),
    ("Content-Signal: ai-train=no", "/x", ("content_signal",)),  # before all groups
    ("Content-Signal: ai-train=no\nUser-agent: *\nAllow: /", "/x", ("content_signal",)),
    ("Content-Signal: ai-train=no\nUser-agent: alignset\nAllow: /", "/x", ()),
    (
        "User-agent: *\nContent-Signal: ai-train=no\nContent-Signal: / ai-train=yes",
        *("/x", ("content_signal",)),
    ),
    ("User-agent: *\nLicense: /l.xml\n\nUser-agent: GPTBot\nDisallow: /", "/x", ()),
    (PATHS, "/about", ()),
    (PATHS, "/blog/a", ("content_signal",)),
    (PATHS, "/blog/free", ("content_signal",)),  # a silent line neither grants nor restricts
    (PATHS, "/x", ()),
    (named("CCBot"), "/x", ("robots_txt:CCBot",)),
    (named("ccbot/2.0 (x)"), "/x", ("robots_txt:CCBot",)),
    (named("GPTBot, CCBot"), "/x", ("robots_txt:CCBot",)),
    (named("GPTBot CCBot"), "/x", ("robots_txt:CCBot",)),
    (named("GPTBot; CCBot"), "/x", ("robots_txt:CCBot",)),
    (named("GPTBot"), "/x", ()),
    (named("CC"), "/x", ()),  # the beginning of a name is another's
    (named("Google"), "/x", ()),
    (named("CCBot", "Disallow:"), "/x", ()),
    (named("CCBot", "Disallow: /p\nAllow: /p/q"), "/p/q", ()),
    (named("CCBot", "Disallow: /p\nAllow: /p/q"), "/p/r", ("robots_txt:CCBot",)),
    (named("CCBot", "Content-Signal: ai-train=no"), "/x", ("content_signal:CCBot",)),
    (named("CCBot", "Content-Usage: train-ai=n"), "/x", ("content_usage:CCBot",)),
    (named("CCBot\nUser-agent: img2dataset"), "/x", ("robots_txt:CCBot",)),  # one group, one detail
    ("User-agent: *\nUser-agent: CCBot\nDisallow: /", "/x", ("robots_txt",)),
    ("User-agent: *\nDisallow: /\nUser-agent: CCBot\nAllow: /", "/x", ("robots_txt",)),
    # A host that names this fetcher has decided on it.
    ("User-agent: CCBot\nDisallow: /\nUser-agent: alignset\nAllow: /", "/x", ()),
    ("User-agent: alignset\nAllow: /\n\nUser-agent: CCBot\nDisallow: /", "/x", ()),
    (
        "User-agent: alignset\nDisallow: /p\n\nUser-agent: CCBot\nDisallow: /",
        *("/p/x", ("robots_txt",)),
    ),
    ("User-agent: alignset\nUser-agent: CCBot\nDisallow: /", "/x", ("robots_txt",)),
]


@pytest.mark.parametrize(("text", "path", "details"), CASES)
def test_what_a_robots_txt_states(text: str, path: str, details: tuple[str, ...]) -> None:
    found = stated(text, path)
    if text is CLOUDFLARE:
        details = (*details, "robots_txt:Google-Extended", "content_signal")
    assert found == details
    alone = OptOutSettings(also_obey="", content_signal="", content_usage="")
    assert set(stated(text, path, alone)) == {"robots_txt"} & set(details)


def test_whose_rules_count() -> None:
    for name in ALL_CRAWLERS:
        every = OptOutSettings(also_obey="all")
        assert stated(named(name), how=every) == (f"robots_txt:{name}",)
    some = OptOutSettings(also_obey="GPTBot, CCBot", user_agent_token="CCBot")
    assert stated(named("CCBot"), how=some) == ("robots_txt",)
    assert stated(named("gptbot"), how=some) == ("robots_txt:GPTBot",)
    assert set(HOW.obeyed_crawlers) <= set(ALL_CRAWLERS)


def test_details_and_their_kinds() -> None:
    details = ["c2pa", "content_signal", "robots_txt:b", "robots_txt", "rsl", "robots_txt", "dns"]
    ordered = ("robots_txt", "robots_txt:b", "content_signal", "rsl", "c2pa")
    assert ordered_opt_outs(details) == ordered
    assert [opt_out_kind(detail) for detail in (*OPT_OUTS, "x:rsl", None)] == [*OPT_OUTS, "", ""]


def rsl(*contents: str) -> bytes:
    return f'<rsl xmlns="https://rslstandard.org/rsl">{"".join(contents)}</rsl>'.encode()


def content(licence: str, attributes: str = 'url="/"') -> str:
    return f"<content {attributes}><license>{licence}</license></content>"


def uses(element: str, names: str, kind: str = "usage") -> str:
    return f'<{element} type="{kind}">{names}</{element}>'


def paid(kind: str, more: str = "") -> str:
    return f'<payment type="{kind}">{more}</payment>'


FREE_ARTICLES = (
    content(uses("permits", "all")),
    content(uses("prohibits", "ai-train"), 'url="/articles/"'),
)
OFFERS = (
    '<content url="/">'
    f"<license>{uses('permits', 'ai-input search')}{paid('attribution')}</license>"
    f"<license>{uses('prohibits', 'ai-train')}{paid('subscription')}</license></content>"
)
LICENCES: list[tuple[bytes, str, bool]] = [
    # The examples of the standard.
    (rsl(content(uses("prohibits", "ai-all"))), "/x", True),
    (rsl(*FREE_ARTICLES), "/articles/x", True),
    (rsl(*FREE_ARTICLES), "/x", False),
    (rsl(content(uses("permits", "search") + uses("prohibits", "ai-train"))), "/x", True),
    (
        rsl(content(uses("permits", "ai-all") + "<payment><custom>/ask</custom></payment>")),
        "/x",
        True,
    ),
    (
        rsl(content(uses("permits", "ai-all") + paid("attribution", "<standard>cc</standard>"))),
        "/x",
        False,
    ),
    (rsl(content(paid("crawl", '<amount currency="USD">0.015</amount>'))), "/x", True),
    (rsl(content(uses("permits", "train-ai") + paid("subscription"))), "/x", True),  # of its guide
    # The licence of the RSL Collective's guide costs; the second one asks for reports.
    (rsl(content(uses("permits", "ai-all") + paid("", "<standard>rsl</standard>"))), "/x", True),
    (rsl(content(uses("permits", "all") + '<reporting type="audit"/>')), "/x", True),
    # What is permitted, prohibited, and neither.
    (rsl(content(uses("permits", "ai-train"))), "/x", False),
    (rsl(content(uses("permits", "search ai-input"))), "/x", True),
    (rsl(content(uses("permits", ""))), "/x", True),
    (rsl(content(uses("prohibits", "search"))), "/x", False),
    (rsl(content(uses("prohibits", "AI-Input,\n AI-Train"))), "/x", True),
    (rsl(content(uses("prohibits", "ai_train; search"))), "/x", True),
    (rsl(content(uses("permits", "ai-train") + uses("prohibits", "all"))), "/x", True),
    (
        rsl(content(uses("permits", "EU", "geo") + uses("prohibits", "commercial", "user"))),
        "/x",
        False,
    ),
    (rsl(OFFERS), "/x", True),
    (rsl(OFFERS.replace("prohibits", "permits")), "/x", True),  # for money alone
    (rsl(content(uses("permits", "all") + paid("purchase"))), "/x", True),
    (rsl(content(uses("permits", "all") + paid("free"))), "/x", False),
    (rsl('<content url="/"><terms>https://t/</terms></content>'), "/x", False),  # no licence
    # A server that gives licences, and encryption.
    (rsl(content(uses("permits", "all"), 'url="/" server="https://l.example"')), "/x", True),
    (rsl(content(uses("permits", "all"), 'url="/" encrypted="true"')), "/x", True),
    (rsl(content(uses("permits", "all"), 'url="/" encrypted="True"')), "/x", True),
    (rsl(content(uses("permits", "all"), 'url="/" encrypted="false"')), "/x", False),
    # Paths: the longest that says something, on its own host.
    (
        rsl(content(uses("prohibits", "all")), content(uses("permits", "all"), 'url="/o/"')),
        "/o/x",
        False,
    ),
    (
        rsl(content(uses("prohibits", "all")), content(uses("prohibits", "search"), 'url="/o/"')),
        "/o/x",
        True,
    ),
    (rsl(content(uses("prohibits", "all"), 'url="/*.png$"')), "/a/b.png", True),
    (rsl(content(uses("prohibits", "all"), 'url="/*.png$"')), "/a/b.png?c", False),
    (rsl(content(uses("prohibits", "all"), 'url=""')), "/x", True),
    (rsl(content(uses("prohibits", "all"), 'url="https://A.example/*"')), "/x", True),
    (rsl(content(uses("prohibits", "all"), 'url="http://b.example/"')), "/x", False),
    (
        rsl(content(uses("prohibits", "all"), 'url="https://bücher.de/"')),
        "//xn--bcher-kva.de/x",
        True,
    ),
    (rsl(content(uses("prohibits", "all")), content(uses("permits", "all"))), "/x", True),
    # Files of other forms, and other files.
    (
        b"\xef\xbb\xbf<?xml version='1.0' encoding='utf-8'?>"
        + rsl(content(uses("prohibits", "all"))),
        "/x",
        True,
    ),
    (
        b'<rss xmlns:r="https://rslstandard.org/rsl"><r:content url="/"><r:license>'
        b'<r:prohibits type="usage">all</r:prohibits></r:license></r:content></rss>',
        *("/x", True),
    ),
    (rsl(content(uses("prohibits", "all"))).replace(b'/rsl"', b'/other"', 1), "/x", False),
    (rsl(content(uses("prohibits", "all"))).replace(b"https:", b"http:", 1), "/x", True),
    (rsl(content(uses("prohibits", "all"))).replace(b'/rsl"', b'/rsl/"', 1), "/x", True),
    (b"\n<?xml version='1.0'?>" + rsl(content(uses("prohibits", "all"))), "/x", True),
    (b"<!DOCTYPE rsl>" + rsl(content(uses("prohibits", "all"))), "/x", True),
    (b"<!DOCTYPE html><html><body>not found</body></html>", "/x", False),
    (rsl(content(uses("prohibits", "all")))[:-6] + b"<", "/x", True),  # cut off behind a whole one
    (b"", "/x", False),
    (b"\0\xff", "/x", False),
]


@pytest.mark.parametrize(("body", "path", "reserved"), LICENCES)
def test_a_licence_file(body: bytes, path: str, reserved: bool) -> None:
    url = f"https:{path}" if path.startswith("//") else f"https://a.example{path}"
    assert read_license(body).reserves(url) is reserved


def test_links_to_licence_files() -> None:
    url = "https://a.example/b/c.jpg"
    link = '<{}>; rel="license"; type="application/rsl+xml"'
    cases: dict[str, tuple[str, ...]] = {
        link.format("https://l.example/l.xml#a"): ("https://l.example/l.xml",),
        link.format("l.xml"): ("https://a.example/b/l.xml",),
        "<x>; rel=next, " + link.format("/l.xml"): ("https://a.example/l.xml",),
        "</l.xml>;TYPE=application/RSL+XML;REL='index license'": ("https://a.example/l.xml",),
        "</l.xml>; rel=license": (),  # of another kind
        "</l.xml>; rel=licenses; type=application/rsl+xml": (),
        link.format("ftp://l.example/"): (),
        link.format("javascript:1"): (),
        "application/rsl+xml": (),
        "<" * 50_000 + "rsl+xml": (),
        ",".join(link.format(f"/{n}") for n in range(50)): (
            *(f"https://a.example/{n}" for n in range(3)),
        ),
    }
    for field, files in cases.items():
        found = license_links([f"Link: {field}\r\n".encode()], url)
        assert found == tuple((file, url, (url,)) for file in files)


def test_licence_files_that_a_robots_txt_names() -> None:
    site, mine = "License: https://a.example/site.xml\n", "License: /mine.xml\n"
    other = "User-agent: GPTBot\nDisallow: /\n"
    cases = {
        site: ["https://a.example/site.xml"],
        "user-agent: *\nlicense :/mine.xml # all": ["https://a.example/mine.xml"],
        f"{site}User-agent: *\n{mine}": ["https://a.example/mine.xml"],  # its group comes first
        f"User-agent: *\nAllow: /\n\n{other}\n{site}": ["https://a.example/site.xml"],
        f"User-agent: *\nAllow: /\n{site}{other}{mine}": ["https://a.example/site.xml"],
        "License: see our terms\nLicense: ftp://a.example/": [],
        "".join(f"License: /{n}\n" for n in range(9)): [f"https://a.example/{n}" for n in range(3)],
    }
    for text, urls in cases.items():
        found = license_urls(robots(text).licenses, "https://a.example/robots.txt")
        assert [*found] == urls, text


def steps_of(work: Callable[[], object]) -> int:
    """How many lines and calls of Python some work takes."""
    count = 0

    def trace(*_: object) -> object:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


BOMB = '<!DOCTYPE rsl [<!ENTITY a "ai-all">{}]>'
HOSTILE: dict[str, Callable[[int], object]] = {
    "contents": lambda n: read_license(rsl(content(uses("prohibits", "all")) * n)),
    "depth": lambda n: read_license(b"<content>" * n),
    "names": lambda n: read_license(rsl(content(uses("prohibits", "x " * n)))),
    "attributes": lambda n: read_license(
        rsl("<content " + " ".join(f"a{i}=''" for i in range(n)) + "/>")
    ),
    "entities": lambda n: read_license(
        (BOMB.format("".join(f'<!ENTITY b{i} "{"&a;" * 10}">' for i in range(n)))).encode()
        + rsl(content(uses("prohibits", "&b0;")))
    ),
    "signals": lambda n: signal_allowed("ai-train " * n, TRAIN),
    "blanks": lambda n: signal_allowed("ai-train" + " " * n, TRAIN),
    "links": lambda n: license_links([b"Link: rsl+xml" + b"<a>;rel= " * n], "http://a.example/"),
    "groups": lambda n: robots(
        "".join(f"User-agent: {ALL_CRAWLERS[i % 30]}\nDisallow: /{i}\n" for i in range(n)),
        OptOutSettings(also_obey="all"),
    ),
    "crawlers of one group": lambda n: robots(
        "".join(f"User-agent: {name}\n" for name in ALL_CRAWLERS)
        + "".join(f"Disallow: /{i}\n" for i in range(n)),
        OptOutSettings(also_obey="all"),
    ),
    "groups of all crawlers": lambda n: robots(
        "".join(
            "".join(f"User-agent: {name}\n" for name in ALL_CRAWLERS[i % 3 :]) + f"Disallow: /{i}\n"
            for i in range(n // 20)
        ),
        OptOutSettings(also_obey="all"),
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_twice_as_much_takes_at_most_twice_as_long(name: str) -> None:
    n = 2_000
    assert steps_of(lambda: HOSTILE[name](2 * n)) <= 2.2 * steps_of(lambda: HOSTILE[name](n)) + 500


def test_hostile_licence_files() -> None:
    bomb = BOMB.format('<!ENTITY b "&a;&a;">').encode() + rsl(content(uses("prohibits", "&b;")))
    assert read_license(bomb).rules == ()
    for declared in (
        '<!ENTITY a SYSTEM "file:///etc/passwd">',
        '<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;',
        '<!ATTLIST content url CDATA "/">',
    ):
        dtd = f"<!DOCTYPE rsl [{declared}]>".encode()
        assert read_license(dtd + rsl(content(uses("prohibits", "all")))).rules == ()
    stars = rsl(content(uses("prohibits", "all"), f'url="/{"a*" * 240}"'))
    assert read_license(stars).reserves(f"http://a.example/{'a' * 8}/x")
    assert not read_license(stars).reserves(f"http://a.example/{'a' * 7}")
    freed = rsl(content(uses("permits", "all"), f'url="/{"a*" * 240}"'))
    assert read_license(freed).rules == ()
    many = rsl(*(content(uses("prohibits", "all"), f'url="/{n}"') for n in range(5_000)))
    assert len(read_license(many).rules) == MOST_RULES
    assert read_license(rsl("<a>" * 100_000)).rules == ()
    assert read_license(rsl(content(uses("prohibits", "all"), f'url="/{"a" * 9_000}"'))).rules == ()


def test_all_that_is_parsed_for_other_crawlers_is_bounded() -> None:
    rules = "".join(f"Disallow: /{number}\n" for number in range(20_000))
    text = "".join(f"User-agent: {name}\nAllow: /{name}\n" for name in ALL_CRAWLERS)
    text += "".join(f"User-agent: {name}\n" for name in ALL_CRAWLERS) + rules
    read = robots(text, OptOutSettings(also_obey="all"))
    assert read.size < 600_000
    assert len(read.others) < 4
    assert read.opt_outs("http://a.example/x")  # nobody can say that it is allowed
