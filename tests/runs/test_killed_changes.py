"""A command that changes a dataset and is killed anywhere: readers never meet half a shard, and the
same command ends it with the bytes of one that nothing disturbed."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.agreement import check_dataset
from tests.support.command import digests
from tests.support.described_sets import SETS, DescribedSets
from tests.support.killed_changes import NEVER, UNSEEN, check_readers, run_killed
from tests.support.small_web import small_web

TEN = 10


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DescribedSets]:
    with small_web() as web:
        yield DescribedSets(web, tmp_path_factory.mktemp("killed"))


def moments(changes: list[str], count: int) -> list[int]:
    """How many changes there were when a command is killed: between two files of a shard, between
    two documents, while it forgets the change and once it has written it down; and others."""

    def after(name: str) -> int:
        return next((n for n, path in enumerate(changes, 1) if path.startswith(name)), 1)

    telling = [after("shards/") - 1, after("croissant.json"), len(changes) - 1]
    telling += [after("_temporary/change.json"), after("funnel.json"), after("manifest.json"), 0]
    chosen = {*telling[:count]}
    rest, more = [n for n in range(len(changes)) if n not in chosen], count - len(chosen)
    return sorted(chosen | {rest[len(rest) * n // more] for n in range(more)})


@pytest.mark.timeout(1800)  # ten kills, each with two starts of the command, on a busy machine
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("all taken", 2),  # the others are slow
        *(
            pytest.param(name, TEN, marks=pytest.mark.slow)
            for name in ("all taken", "texts forgotten", "all near", "all again", "near")
        ),
    ],
)
def test_killed_anywhere_the_same_command_ends_it(
    sets: DescribedSets, tmp_path: Path, name: str, count: int
) -> None:
    start, whole = tmp_path / "start", tmp_path / "whole"
    sets.begin(name, start)
    sets.set_web(name)
    if not SETS[name].of:  # a run: from where it has looked for what leaves
        _, _, changes = run_killed(whole, UNSEEN, *sets.words(name, whole))
        found = next(n for n, path in enumerate(changes) if path.startswith("_temporary/leaving/"))
        assert run_killed(start, found, *sets.words(name, start))[0] < 0
        shutil.rmtree(whole)
    shutil.copytree(start, whole)
    status, said, changes = run_killed(whole, NEVER, *sets.words(name, whole))
    assert status == 0, said
    check_dataset(whole)
    assert digests(whole) == digests(sets.find(name))
    assert len(changes) > TEN + 5
    chosen = moments(changes, count)

    def kill(when: int) -> None:
        out = Path(shutil.copytree(start, tmp_path / f"{when}"))
        status, said, _ = run_killed(out, when, *sets.words(name, out))
        assert status < 0, said
        check_readers(out)
        if when in chosen[2::3]:
            seen = run_killed(out, UNSEEN, "look", str(out), f"--output={out}.html", "--n=40")
            assert seen[0] == 0, seen[1]
        status, said, _ = run_killed(out, UNSEEN, *sets.words(name, out))
        assert status == 0, said
        assert digests(out) == digests(whole), when
        shutil.rmtree(out)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(kill, chosen))
