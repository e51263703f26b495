"""Variables that worker processes read are there while a run needs them, and are set back."""

import os
from contextlib import suppress

import pytest

from alignset.pipeline.runs.beam_patches import words_of_command, worker_environment
from tests.support.root import ROOT


@pytest.mark.parametrize("before", [None, "/a:/b"])
def test_workers_find_the_sources_and_what_flags_need(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.delenv("ALIGNSET_WORDS", raising=False)
    if before:
        monkeypatch.setenv("PYTHONPATH", before)
    environment = dict(os.environ)
    with suppress(OSError), worker_environment(["--input=s3://a/b"]):
        assert os.environ["PYTHONPATH"] == (f"{ROOT}:{before}" if before else str(ROOT))
        assert words_of_command() == ["s3://"]
        raise OSError
    assert dict(os.environ) == environment
