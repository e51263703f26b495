"""Of several workers that were given a shard, the last writes it."""

from pathlib import Path

import pytest

from alignset.transforms.workers.claims import Claim, ClaimLostError, current_mark, suspects
from alignset.transforms.workers.fencing import Fence
from tests.support.memory_files import FILES


def fence(folder: Path, token: str = "start") -> Fence:
    return Fence(str(folder / "start"), token)


def test_the_last_has_it(tmp_path: Path):
    path = str(tmp_path / "plan" / "00000.claim")
    first = Claim(path, fence(tmp_path))
    first.check()
    second = Claim(path, fence(tmp_path))
    second.check()
    with pytest.raises(ClaimLostError, match=r"begun .*00000\.claim anew"):
        first.check()
    second.check()


def test_after_the_run_nobody_has_it(tmp_path: Path):
    """A worker that was cut off must not write into a finished dataset."""
    claim = Claim(str(tmp_path / "00000.claim"), fence(tmp_path))
    (tmp_path / "00000.claim").unlink()
    with pytest.raises(FileNotFoundError):
        claim.check()


def test_a_claim_of_an_earlier_start_is_none(tmp_path: Path):
    path = str(tmp_path / "00000.claim")
    assert current_mark(path, "first") is None
    first, again = (Claim(path, fence(tmp_path, "first")) for _ in range(2))
    assert current_mark(path, "first") == again.mark != first.mark
    assert current_mark(path, "second") is None
    second = Claim(path, fence(tmp_path, "second"))
    assert current_mark(path, "second") == second.mark
    assert [claim.mark.attempt for claim in (first, again, second)] == [1, 2, 1]
    # A runner gives a shard out again where its worker has died.
    assert [claim.mark.suspect for claim in (first, again, second)] == [False, True, True]


def test_who_comes_after_an_attempt_that_may_have_died_is_suspect(folder: str):
    one, two, three, four = (Fence(f"{folder}/start", name) for name in ("1", "2", "3", "4"))
    path, other = f"{folder}/plan/00000.claim", f"{folder}/plan/00001.claim"
    assert not Claim(path, one).mark.suspect  # nobody was there before
    assert suspects([path], two) == [path]
    one.note_end()
    assert suspects([path], two) == []
    assert not Claim(path, two).mark.suspect  # the first start ended in order
    Claim(other, two)
    assert suspects([path, other], three) == [path, other]  # the second died
    assert Claim(path, three).mark.suspect
    three.note_end()
    assert three.finished_starts() == {"1", "3"}
    assert suspects([path, other], four) == [path, other]  # so it stays, until it is written
    assert Claim(path, four).mark.suspect


def test_in_a_store_an_upload_that_was_overtaken_replaces_nothing(tmp_path: Path):
    FILES.clear()
    first, second = (Claim("mem://bucket/00000.claim", fence(tmp_path)) for _ in range(2))
    (tmp_path / "late").write_bytes(b"late")
    (tmp_path / "new").write_bytes(b"new")
    second.publish(tmp_path / "new", "mem://bucket/00000.tar")
    with pytest.raises(ClaimLostError):
        first.publish(tmp_path / "late", "mem://bucket/00000.tar")
    assert FILES["mem://bucket/00000.tar"] == b"new"
