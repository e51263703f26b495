"""Shards that hold something get numbers without a gap, wherever it is stopped on the way."""

import json
import shutil
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.shards import renumber_shards as module
from alignset.transforms.shards.renumber_shards import renumber_shards, renumbering
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_stats import shard_stats
from tests.support.command import digests

NUMBERS = st.integers(0, 60) | st.integers(HOLDOUT, HOLDOUT + 60)


@given(st.dictionaries(NUMBERS, st.booleans()))
def test_no_gap_and_no_number_twice(kept: dict[int, bool]):
    """The last take the places of the empty, which take theirs; in each split by itself."""
    new = dict(renumbering(kept).moves)
    for first in (0, HOLDOUT):
        of_split = [shard for shard in sorted(kept) if first <= shard < first + HOLDOUT]
        full = [shard for shard in of_split if kept[shard]]
        filled = range(first, first + len(full))
        assert sorted(new.get(shard, shard) for shard in full) == [*filled]
        assert {shard for shard in full if shard in new} == {*full} - {*filled}
    assert len({new.get(shard, shard) for shard in kept}) == len(kept)


KEPT = {0: 0, 1: 3, 2: 0, 4: 2, 6: 1}


def made(folder: Path) -> Path:
    """An output with these shards, each of whose files names the shard that it was made for."""
    for name in ("shards", "rejected"):
        (folder / name).mkdir(parents=True)
    places = ShardPlaces(str(folder))
    for shard, samples in KEPT.items():
        reasons = ["too_small", *[None] * samples]
        stats = shard_stats(shard, reasons, reasons, size=shard, sha256=f"of {shard}")
        Path(places.stats(shard)).write_bytes(stats.encode())
        Path(places.rejected(shard)).write_text(f"dropped from {shard}")
        if samples:
            Path(places.tar(shard)).write_text(f"tar {shard}")
            Path(places.sidecar(shard)).write_text(f"sidecar {shard}")
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith("_stats.json")
    }


def test_each_shard_keeps_all_that_is_its_own(tmp_path: Path):
    out = made(tmp_path / "set")
    work = str(tmp_path / "work")
    assert renumber_shards(str(out), work) == {4: 0, 6: 2, 0: 4, 2: 6}
    numbers = {0: 4, 1: 1, 2: 6, 4: 0, 6: 2}
    expected = {
        f"rejected/images-{new:05d}.parquet": f"dropped from {old}" for new, old in numbers.items()
    }
    for new, old in numbers.items():
        stats = json.loads((out / f"shards/{new:05d}_stats.json").read_text())
        assert (stats["shard"], stats["bytes_downloaded"]) == (new, old)
        assert stats["successes"] == KEPT[old]
        if KEPT[old]:
            expected |= {
                f"shards/{new:05d}.parquet": f"sidecar {old}",
                f"shards/{new:05d}.tar": f"tar {old}",
            }
    assert contents(out) == expected


def test_what_is_missing_leaves_nothing_under_an_old_number(tmp_path: Path):
    out = made(tmp_path / "set")
    for path in [*out.rglob("*00000*"), *out.glob("rejected/images-00006*")]:
        path.unlink()  # shard 0 was given no pair; a downloaded dataset lacks rejects
    assert renumber_shards(str(out), str(tmp_path / "work")) == {4: 0, 6: 2, 2: 6}
    assert not list(out.rglob("*00004*"))
    assert contents(out / "rejected") == {
        "images-00000.parquet": "dropped from 4",
        "images-00001.parquet": "dropped from 1",
        "images-00006.parquet": "dropped from 2",
    }


class StoppedError(Exception):
    pass


def test_stopped_before_any_change_it_is_done_again_to_the_same_end(tmp_path: Path, monkeypatch):
    made(tmp_path / "made")
    whole = shutil.copytree(tmp_path / "made", tmp_path / "whole")
    expected = renumber_shards(str(whole), str(tmp_path / "work"))
    changing = ("copy_file", "move", "remove", "write_atomically", "write_document")
    for calls in range(1, 1000):
        out = shutil.copytree(tmp_path / "made", tmp_path / "set", dirs_exist_ok=False)
        work, left = tmp_path / f"work-{calls}", [calls]

        def counted(function, left=left):
            def call(*args):
                left[0] -= 1
                if left[0] < 1:
                    raise StoppedError
                return function(*args)

            return call

        with monkeypatch.context() as patched:
            for name in changing:
                patched.setattr(module, name, counted(getattr(module, name)))
            try:
                renumber_shards(str(out), str(work))
                break
            except StoppedError:
                pass
        assert renumber_shards(str(out), str(work)) == expected
        assert digests(out) == digests(whole)
        shutil.rmtree(out)
    assert calls > 15  # changes that it was stopped before
