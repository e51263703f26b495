"""What a plain install has, and what the extras bring."""

import importlib.metadata
import json
import subprocess
import sys
import tomllib
from itertools import chain

import pytest
from packaging.requirements import Requirement

from alignset.extras import EXTRAS, is_installed, missing_extra
from tests.support.command import digests
from tests.support.golden_run import Golden
from tests.support.root import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def named(requirements: list[str]) -> set[str]:
    """The packages of some requirements, and the packages of our extras among them."""
    names = set()
    for requirement in map(Requirement, requirements):
        if requirement.name == "alignset":
            own = (PROJECT["optional-dependencies"][extra] for extra in requirement.extras)
            names |= named([*chain(*own)])
        else:
            names.add(requirement.name)
    return names


def test_each_extra_has_its_modules_and_its_file() -> None:
    extras = PROJECT["optional-dependencies"]
    assert EXTRAS.keys() == extras.keys() - {"dev"}
    packages = importlib.metadata.packages_distributions() | {"pdqhash": ["pdqhash"]}
    for extra in EXTRAS.keys() - {"gcp"}:  # of which Beam knows what it is
        of_modules = {name.lower() for module in EXTRAS[extra] for name in packages[module]}
        assert of_modules <= named(extras[extra]), extra
        if extra not in ("pdq", "demo"):
            pinned = (ROOT / f"requirements/{extra}.txt").read_text()
            assert all(f"\n{name}==" in f"\n{pinned}" for name in of_modules)
    for all_of_curate in ("dev", "gcp"):  # what the tests need, and the workers of Dataflow
        for extra in ("languages", "pages", "blocklists"):
            assert named(extras[extra]) <= named(extras[all_of_curate])


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_extra("languages", "x") == ""
    assert not is_installed("no_such_package.of_it")
    monkeypatch.setitem(sys.modules, "pycld2", None)
    assert missing_extra("languages", "--language=de") == (
        "--language=de needs pycld2: pip install 'alignset[languages]' ('.[languages]' in a clone)"
    )


WITHOUT_EXTRAS = """
import sys

sys.modules |= dict.fromkeys(sys.argv.pop(1).split(","))
from alignset.__main__ import main

sys.exit(main())
"""
# Other packages of a plain install bring these: Beam, imagehash, numba, or none.
_PLAIN = {"zstandard", "yaml"}


def without_extras(*words: str) -> subprocess.CompletedProcess[str]:
    """A command where nothing is installed that only an extra brings."""
    absent = {module for modules in EXTRAS.values() for module in modules} - _PLAIN
    command = [sys.executable, "-c", WITHOUT_EXTRAS, ",".join(sorted(absent)), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_plain_install_makes_the_same_dataset(plain: Golden, tmp_path) -> None:
    out = tmp_path / "set"
    done = without_extras("curate", f"--input={plain.pairs}", f"--output={out}", *plain.flags)
    assert done.returncode == 0, done.stderr
    ours, theirs = (
        {n: d for n, d in digests(of).items() if "/" in n} for of in (out, plain.output)
    )
    assert ours == theirs
    manifests = (json.loads((of / "manifest.json").read_text()) for of in (out, plain.output))
    first, second = manifests
    assert first["versions"] == second["versions"]


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("curate", "--input=PAIRS", "--output=OUT", "--language=de"), "languages"),
        (("curate", "--input=PAGE", "--output=OUT", "--base_url=http://a.example/"), "pages"),
        (("curate", "--input=PAIRS", "--output=OUT", "--blocklist=LIST"), "blocklists"),
        (("takedown", "SET", "--blocklist=LIST", "--dry_run"), "blocklists"),
        (("deduplicate", "s3://bucket/set"), "aws"),
        (("look", "gs://bucket/set"), "gcp"),
        (("train", "--shards=SET/shards", "--run=OUT"), "train"),
        (("search", "serve", "OUT"), "search"),
        (("demo", "--output=OUT"), "demo"),
    ],
)
def test_what_needs_an_extra_ends_at_once_with_the_command_that_installs_it(
    plain: Golden, tmp_path, words: tuple[str, ...], extra: str
) -> None:
    (tmp_path / "page.html").write_text("<img src=a.png alt=b>")
    (tmp_path / "list.txt").write_text("domain:a.example\n")
    places = {
        **{"PAIRS": plain.pairs, "SET": plain.output, "OUT": tmp_path / "out"},
        **{"PAGE": tmp_path / "page.html", "LIST": tmp_path / "list.txt"},
    }
    for name, path in places.items():
        words = tuple(word.replace(name, str(path)) for word in words)
    done = without_extras(*words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"pip install 'alignset[{extra}]' ('.[{extra}]' in a clone)" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "needed", importlib.metadata.requires("open-clip-torch") or [], ids=lambda text: text
)
def test_the_packages_are_those_that_open_clip_trains_with(needed: str):
    """It reads nothing with webdataset > 0.2.86: `KeyError: 'fname'`."""
    requirement = Requirement(needed)
    if requirement.marker is None or requirement.marker.evaluate({"extra": "training"}):
        assert requirement.specifier.contains(importlib.metadata.version(requirement.name))
