"""robots.txt: the assertions of Protego's own tests, which are read and not run; and the 4,200 real
files that it ships, about which a port of Google's parser is asked."""

from __future__ import annotations

import ast
import importlib
import re
import string
import textwrap
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from alignset.transforms.columns.web_urls import request_url
from alignset.transforms.fetching.robots import read_robots
from tests.suites.case import Case
from tests.suites.packages import imported, unpacked

_AGENT = re.compile(r"^\s*user-agent\s*:\s*([A-Za-z_-]+)\s*$", re.M | re.I)
_PATH = re.compile(r"^\s*(?:dis)?allow\s*:\s*(/[^#\s]*)", re.M | re.I)
_MOST_AGENTS, _MOST_PATHS, _LONGEST = 2, 4, 20_000  # of a file, whose other parser takes its time


def cases() -> Iterator[Case]:
    """Yields a case for each file, fetcher and path: whether it may be fetched."""
    tests = unpacked("protego") / "tests"
    for file in (tests / "test_protego.py", tests / "test_on_google_spec.py"):
        for content, path, agent, allowed in _assertions(file):
            name = f"Protego {agent} {path} {textwrap.shorten(content, 300)}"
            yield Case(name, allowed, _allows(content.encode(), agent, path))
    yield from _of_hosts(tests / "test_data")


def _allows(body: bytes, agent: str, path: str) -> bool:
    url = path if path.startswith("http") else f"http://a.test/{path.removeprefix('/')}"
    return not read_robots(body, None, agent.lower()).opt_outs(request_url(url) or url)


def _assertions(file: Path) -> Iterator[tuple[str, str, str, bool]]:
    """Each (robots.txt, path, agent, allowed) that the tests of Protego state as literals."""
    for test in ast.walk(ast.parse(file.read_text("utf-8"))):
        if not isinstance(test, ast.FunctionDef):
            continue
        content = None
        for line in test.body:
            match line:
                case ast.Assign(targets=[ast.Name(id="content" | "robotstxt_content")]):
                    value = line.value
                    is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
                    content = value.value if is_text else None
                case ast.Assert(test=asked) if content is not None:
                    allowed = not isinstance(asked, ast.UnaryOp)
                    call = asked if allowed else asked.operand
                    match call:
                        case ast.Call(
                            func=ast.Attribute(attr="can_fetch"),
                            args=[ast.Constant(value=str(path)), ast.Constant(value=str(agent))],
                        ):
                            yield content, path, agent, allowed


def _of_hosts(folder: Path) -> Iterator[Case]:
    imported("gpyrobotstxt")
    matcher = importlib.import_module("gpyrobotstxt.robots_cc").RobotsMatcher
    for file in sorted(folder.iterdir()):
        body = file.read_bytes()[:_LONGEST]
        text = body.decode("utf-8", "replace")
        agents = [*dict.fromkeys(_AGENT.findall(text)), "alignset"][-_MOST_AGENTS:]
        paths = list(
            dict.fromkeys(path.replace("*", "a").rstrip("$") for path in _PATH.findall(text))
        )
        for agent in agents:
            for path in ["/", *paths[:: max(1, len(paths) // _MOST_PATHS)]]:
                url = f"http://a.test{quote(path, safe=string.punctuation)}"
                try:
                    theirs = bool(matcher().one_agent_allowed_by_robots(body, agent, url))
                except TypeError:  # it fails at a line of tabs
                    continue
                yield Case(f"{file.name} {agent} {path}", theirs, _allows(body, agent, path))
