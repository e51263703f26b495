from itertools import pairwise
from pathlib import Path

from tests.import_cycles import import_cycle, module_of

BELOW = {"b.low": "import os"}


def test_a_cycle_is_told_of_in_the_order_of_its_imports() -> None:
    sources = {
        "a.one": "from a.two import X",
        "a.two": "def open():\n    if True:\n        from a import three",
        "a.three": "import a.one",
    }
    cycle = import_cycle(sources | BELOW)
    assert cycle[0] == cycle[-1]
    assert len(cycle) == 4
    following = dict(pairwise(cycle))
    assert following == {"a.one": "a.two", "a.two": "a.three", "a.three": "a.one"}


def test_what_only_a_type_checker_imports_makes_no_cycle() -> None:
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.two import X\n"
    sources = {"a.one": guarded, "a.two": "from a.one import Y"}
    assert import_cycle(sources | BELOW) == []
    assert import_cycle(sources | {"a.one": guarded + "else:\n    import a.two"}) != []


def test_a_package_is_not_its_modules() -> None:
    sources = {"a": "", "a.one": "from a import two", "a.two": "import a"}
    assert import_cycle(sources) == []
    assert import_cycle(sources | {"a": "from a import one"}) != []


def test_modules_have_the_names_by_which_they_are_imported() -> None:
    assert module_of(Path("pipeline/rules.py")) == "alignset.pipeline.rules"
    assert module_of(Path("alignset/signals.py")) == "alignset.signals"
    assert module_of(Path("tests/support/root.py")) == "tests.support.root"
