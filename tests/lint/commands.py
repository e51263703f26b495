"""Each command line on a page is accepted by the parsers of its command, as it stands there.

`tests/test_pages.py` runs the lines, but for those of `UNTRIED`.
"""

import re
import shlex
from types import FunctionType, SimpleNamespace
from typing import Any, NoReturn

import pytest

from alignset.__main__ import COMMANDS, command_of
from alignset.pipeline.options import make_settings, read_flags
from tests.support.page_lines import NESTED, OURS, UNTRIED, page_lines, why_untried
from tests.support.root import ROOT

# What a command calls first when its flags are right.
FIRST = """
pipeline.run.run pipeline.grow._settings_of pipeline.commands.end_of
train.__main__.join_tasks train.evaluate.__main__.evaluate train.classify.classifier.find_images
train.classify.vtab.run_protocol train.search.query.run_query train.search.serve.run_serve
train.search.index_files.run_index train.search.embed.find_sources train.export.export_towers
ablate.plan.find_captioned flink.__main__.install flink.__main__.head flink.__main__.worker
flink.__main__.status flink.__main__.print_flags
"""


class _FlagsAreRightError(BaseException):
    pass


def _stop(*values: Any, **_: Any) -> NoReturn:
    """Ends a command; first checks the flags of `curate` that another command hands on."""
    for work in (v for v in values if isinstance(v, FunctionType) and v.__closure__):
        free = dict(zip(work.__code__.co_freevars, work.__closure__, strict=True))
        words = [
            w for name in ("thresholds", "words") if name in free for w in free[name].cell_contents
        ]
        make_settings(read_flags(["--input=a", "--output=b", *words]))
    raise _FlagsAreRightError


def _own(line: str) -> list[str]:
    """The words behind `alignset` in a command line, [] where it is none of ours."""
    words = shlex.split(NESTED.sub("", line).partition(" > ")[0], comments=True)
    if "flink/slurm.sh" in words:
        return ["curate", *words[words.index("flink/slurm.sh") + 1 :]]
    if words[0].endswith("alignset"):
        return words[1:]
    module = next((word for word in words if word.startswith("alignset.")), "")
    return [module.partition(".")[2], *words[words.index(module) + 1 :]] if module else []


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in FIRST.split():
        monkeypatch.setattr(f"alignset.{name}", _stop)
    rules = re.search(r"```python\n(.*?)```", (ROOT / "docs/rules.md").read_text(), re.DOTALL)
    (tmp_path / "my_rules.py").write_text(rules[1])
    job = SimpleNamespace(job={"text_only": False})  # of a dataset that grows
    monkeypatch.setattr(
        "alignset.train.score_pairs.open_model", lambda _: SimpleNamespace(digest="0")
    )
    (tmp_path / "OUT").mkdir()
    (tmp_path / "OUT/manifest.json").write_text("{}")
    monkeypatch.setattr("alignset.pipeline.grow.read_set", lambda _: (job, None))
    has_rows = SimpleNamespace(has_rows=True)
    monkeypatch.setattr("alignset.pipeline.grow.earlier_set", lambda _: has_rows)


@pytest.mark.usefixtures("stopped")
def test_commands_on_pages_parse(capsys):
    wrong, lines = [], [at for at in page_lines() if OURS.match(at[1])]
    targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page, line in lines:
        words = _own(line)
        if line.startswith("make "):
            if line.split()[1] not in targets:
                wrong.append(f"{page}: {line}")
        elif words and words[0] in COMMANDS:
            try:
                command_of(words[0])(words[1:], f"alignset {words[0]}")
            except _FlagsAreRightError:
                continue
            except (Exception, SystemExit) as error:
                print(error)
            wrong.append(f"{page}: {line}\n    {capsys.readouterr()}")
        else:
            module = ROOT / "alignset" / f"{'/'.join(words[:1]).replace('.', '/')}.py"
            if not module.exists() and not why_untried(line):
                wrong.append(f"{page}: {line}")
    assert len(lines) > 120
    assert not wrong, "\n".join(wrong)


def test_what_is_untried_is_on_a_page():
    lines = [line for _, line in page_lines()]
    assert [of for of in UNTRIED if not any(of in line for line in lines)] == []
