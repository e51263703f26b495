"""The prose of pages, docstrings, help texts, messages and templates: plain word order, and the
field's own words.

CONTRIBUTING.md has the style. A construction that a machine can find is here; the rest is for
readers.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.root import ROOT, parsed, tracked

_SENTENCE = r"(?:^|(?<=[.!?:;] ))"
BANNED = {
    'a sentence begins with "Of"': rf"{_SENTENCE}Of (?!course)",
    'a sentence begins with "What"': rf"{_SENTENCE}What (?![^.]*\?)",
    '"that of", "those of"': r"\b(?:that|those) of\b",
    '"of which"': r"\bof which\b",
    '"is no" for "is not a"': r"(?<!here )\b(?:is|are|was|were) no\b(?! (?:longer|more|less|need))",
    '"wish" for "opt-out"': r"(?i)\bwish(?:es)?\b",
    '"room" for "package"': r"\b(?:[Rr]ooms|(?:[Aa]|each|one|new) room)\b",
    '"plane" for "stage" or "thumbnail"': r"(?<![/.\w])[Pp]lanes?\b(?!\.\w)",
    '"manners" for "politeness"': r"(?i)\bmanners\b",
    '"goes on" for "resumes" or "continues"': r"(?i)\b(?:goes|go|going) on\b(?! the)",
    '"picture" for "image"': r"(?<![/.\w\"-])[Pp]ictures?\b(?!\.\w)",
    '"engine" for "runner"': r"(?i)(?<!search )\bengines?\b",
    '"give --flag" for "pass --flag"': r"\b[Gg]ive x\b",
    '"told by names alone" for "zero-shot"': r"\b(?:told|apart) by names alone\b",
    '"first weights" for "initialisation"': r"(?i)\bfirst weights\b",
    '"way back" for "backward pass"': r"(?i)\bway back\b",
}
# Files in which a word is the thing's own name.
ALLOWED = {
    '"picture" for "image"': (
        "docs/inputs.md",  # the element `picture`
        "transforms/pages/",
        "benchmarks/overlap/packages.py",  # of a package
        "benchmarks/search.py",  # of the query
    )
}
CODE = re.compile(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->|<[^>]*>|\bhttps?://\S+|\b[\w/]+\.md\b")
# Of Jinja and HTML.
TEMPLATE = {
    r"<(script|style).*?</\1>|\{#.*?#\}": "",
    r"\{\{.*?\}\}": "x",
    r"\{%.*?%\}": " ",
    r"</(p|li|h\d|td|th|dt|dd|div|figcaption|button|label|summary|title)>": "\n\n",
}
PAGES = [
    path
    for path in tracked("*.md")
    if path.parts[0] in ("docs", "benchmarks") or len(path.parts) == 1
    if path.as_posix() != "benchmarks/notes.md"
]
SOURCES = [
    path
    for kind in ("py", "js", "j2", "html")
    for path in tracked(f"*.{kind}")
    if path.parts[0] in ("alignset", "pipeline", "transforms", "train", "flink", "benchmarks")
]


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs, items and cells of Markdown, or of a docstring, on a line each."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    for part in re.split(r"\n\s*\n|\n(?=\s*(?:[-*#|>]|\d+\.|\w[\w, ]*:) )", text):
        for cell in part.split(" | ") if part.lstrip().startswith("|") else [part]:
            line = " ".join(CODE.sub("x", cell).split())
            yield re.sub(r"^(?:[-*#|>]+|\d+\.|\w[\w, ]*:) ", "", line).strip("* ")


def prose_of(path: Path) -> Iterator[str]:
    """The prose of a page or a template, or the docstrings and other strings of a module."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _strings_of(parsed(path))
    elif path.suffix == ".js":
        for string in re.findall(r"[\"`]([^\"`\n]*)[\"`]", text):
            yield from _sentences(re.sub(r"\$\{[^}]*\}", "x", string))
    elif path.suffix == ".md":
        yield from paragraphs(text)
    else:
        for pattern, instead in TEMPLATE.items():
            text = re.sub(pattern, instead, text, flags=re.DOTALL)
        yield from paragraphs(text)


def _strings_of(module: ast.Module) -> Iterator[str]:
    parts: set[ast.AST] = set()
    for node in ast.walk(module):  # an f-string before its parts
        if isinstance(node, ast.JoinedStr):
            parts.update(ast.walk(node))
            yield from _sentences(
                "".join(str(v.value) if isinstance(v, ast.Constant) else "x" for v in node.values)
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
            yield from _sentences(inspect.cleandoc(node.value))


def _sentences(text: str) -> Iterator[str]:
    """The paragraphs of a string that may be shown; two words are a name."""
    return paragraphs(text) if len(text.split()) > 2 else iter(())


def faults(prose: str, name: str = "") -> list[str]:
    """The banned constructions in a paragraph of the file of this name."""
    return [
        fault
        for fault, pattern in BANNED.items()
        if re.search(pattern, prose) and not name.startswith(ALLOWED.get(fault, ("?",)))
    ]


def test_pages_docstrings_and_help_are_in_plain_english() -> None:
    found = [
        f"{path}: {fault}: {prose[:100]}"
        for path in [*PAGES, *SOURCES]
        for prose in prose_of(path)
        for fault in faults(prose, path.as_posix())
    ]
    assert not found, "\n".join([f"{len(found)} in all", *found])


@pytest.mark.parametrize(
    ("prose", "fault"),
    [
        ("Nothing. Of these, two stay.", 'a sentence begins with "Of"'),
        ("What a shard records.", 'a sentence begins with "What"'),
        ("The size is that of the file.", '"that of", "those of"'),
        ("A file, of which two exist.", '"of which"'),
        ("A row is no pair.", '"is no" for "is not a"'),
        ("The run goes on.", '"goes on" for "resumes" or "continues"'),
        ("What is a shard?", None),
        ("There is no file; it is no longer there.", None),
        ("The file `picture` and [x](y.md).", None),
    ],
)
def test_a_fault_is_found_in_prose_alone(prose: str, fault: str | None) -> None:
    (line,) = paragraphs(prose)
    assert faults(line) == ([fault] if fault else [])
