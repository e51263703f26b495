"""A command that changes a dataset and is killed anywhere: readers never meet half a shard, and the
same command ends it with the bytes of one that nothing disturbed."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.agreement import check_dataset
from tests.support.command import digests
from tests.support.described_sets import DescribedSets
from tests.support.killed_changes import NEVER, UNSEEN, check_readers, run_killed
from tests.support.small_web import small_web

MOMENTS = 10
# Files of which the moments after and before them are among those: the change is written down, its
# documents are half written, it is being forgotten.
TELLING = ("_temporary/change.json", "funnel.json", "croissant.json", "manifest.json")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DescribedSets]:
    with small_web() as web:
        yield DescribedSets(web, tmp_path_factory.mktemp("killed"))


def moments(changes: list[str], first: int) -> list[int]:
    """How many changes there were when a command is killed: MOMENTS of them."""
    chosen = {changes.index(name) + 1 for name in TELLING if name in changes[first:]}
    chosen |= {first, len(changes) - 1, len(changes) - 2}
    rest = [n for n in range(first, len(changes)) if n not in chosen]
    count = MOMENTS - len(chosen)
    return sorted(chosen | {rest[len(rest) * n // count] for n in range(count)})


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["all taken", "all forgotten", "texts taken", "all near", "all again", "near"]
)
def test_killed_anywhere_the_same_command_ends_it(
    sets: DescribedSets, tmp_path: Path, name: str
) -> None:
    whole, start = tmp_path / "whole", tmp_path / "start"
    sets.begin(name, start)
    sets.begin(name, whole)
    sets.set_web(name)
    status, said, changes = run_killed(whole, NEVER, *sets.words(name, whole))
    assert status == 0, said
    check_dataset(whole)
    expected, first = digests(whole), 0
    if not start.exists():  # a run: from where it begins to take pairs out
        first = next(n for n, path in enumerate(changes) if path.startswith("_temporary/leaving/"))
        assert run_killed(start, first, *sets.words(name, start))[0] < 0
        changes, first = changes[first:], 0
    assert len(changes) > MOMENTS + 5

    def kill(when: int) -> None:
        out = Path(shutil.copytree(start, tmp_path / f"{when}"))
        status, said, _ = run_killed(out, when, *sets.words(name, out))
        assert status < 0, said
        check_readers(out)
        seen = run_killed(out, UNSEEN, "look", str(out), f"--output={out}.html", "--n=40")
        assert seen[0] == 0, seen[1]
        status, said, _ = run_killed(out, UNSEEN, *sets.words(name, out))
        assert status == 0, said
        assert digests(out) == expected, when
        shutil.rmtree(out)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(kill, moments(changes, first)))
