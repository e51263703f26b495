"""Pages of the site that stand outside docs/, for `mkdocs.yml`, and links to and from them."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
# Where they are on the site, by where they are in the repository.
PLACES = {
    "README.md": "index.md",
    **{name: name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")},
    **{name: name for name in ("benchmarks/README.md", "benchmarks/notes.md")},
}
# How far up pages stand among the results of a search: tasks first, records of the project last.
BOOSTS = {
    **{name: 0.3 for name in ("decisions.md", "CHANGELOG.md", "architecture.md")},
    **{name: 0.3 for name in ("benchmarks/README.md", "benchmarks/notes.md")},
    **{f"{name}.md": 3 for name in ("faq", "filters", "install", "recipes")},
    **{f"{name}.md": 3 for name in ("languages", "duplicates", "decontamination", "safety")},
    **{f"{name}.md": 3 for name in ("rules", "train", "evaluation", "search")},
    **{f"{name}.md": 3 for name in ("machines", "tutorial")},
    "politeness.md": 2,
}
_LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(([^)#\s]+)((?:#[^)\s]*)?)\)")
_FENCED = re.compile(r"(```.*?```)", re.DOTALL)


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Adds them."""
    for source, place in PLACES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links that are right in the repository into the site's, and boosts tasks."""
    path = page.file.src_path
    page.meta["search"] = {"boost": BOOSTS.get(path, 3 if path.startswith("how_to/") else 1)}
    here = next((s for s, p in PLACES.items() if p == page.file.src_path), None)
    source = ROOT / (here or f"docs/{page.file.src_path}")

    def turned(link: re.Match[str]) -> str:
        mark, text, target, anchor = link.groups()
        if "://" in target or target.startswith("mailto:"):
            return link[0]
        path = (source.parent / target).resolve().relative_to(ROOT).as_posix()
        place = PLACES.get(path, path.removeprefix("docs/"))
        if path not in PLACES and not path.startswith("docs/"):
            return text  # a file of the repository, which the site has not
        above = "../" * page.file.src_path.count("/")
        return f"{mark}[{text}]({above}{place}{anchor})"

    parts = _FENCED.split(markdown)
    return "".join(p if p.startswith("```") else _LINK.sub(turned, p) for p in parts)
