"""Of several workers that were given a shard, the last writes it."""

from pathlib import Path

import pytest

from tests.support.memory_files import FILES
from transforms.workers.claims import Claim, ClaimLostError, claimed


def test_the_last_has_it(tmp_path: Path):
    path = str(tmp_path / "plan" / "00000.claim")
    first = Claim(path, "start")
    first.check()
    second = Claim(path, "start")
    second.check()
    with pytest.raises(ClaimLostError, match=r"begun .*00000\.claim anew"):
        first.check()
    second.check()


def test_after_the_run_nobody_has_it(tmp_path: Path):
    """A worker that was cut off must not write into a finished set."""
    claim = Claim(str(tmp_path / "00000.claim"), "start")
    (tmp_path / "00000.claim").unlink()
    with pytest.raises(FileNotFoundError):
        claim.check()


def test_a_claim_of_an_earlier_start_is_none(tmp_path: Path):
    path = str(tmp_path / "00000.claim")
    assert claimed(path, "first") is None
    first, again = Claim(path, "first"), Claim(path, "first")
    assert claimed(path, "first") == again.mark != first.mark
    assert claimed(path, "second") is None
    second = Claim(path, "second")
    assert claimed(path, "second") == second.mark
    assert [claim.mark.attempt for claim in (first, again, second)] == [1, 2, 1]


def test_in_a_store_an_upload_that_was_overtaken_replaces_nothing(tmp_path: Path):
    FILES.clear()
    first, second = (Claim("mem://bucket/00000.claim", "start") for _ in range(2))
    (tmp_path / "late").write_bytes(b"late")
    (tmp_path / "new").write_bytes(b"new")
    second.publish(tmp_path / "new", "mem://bucket/00000.tar")
    with pytest.raises(ClaimLostError):
        first.publish(tmp_path / "late", "mem://bucket/00000.tar")
    assert FILES["mem://bucket/00000.tar"] == b"new"
