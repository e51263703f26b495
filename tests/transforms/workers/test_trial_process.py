"""Real processes that die: who ended one is named, and nobody else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from alignset.transforms.workers import trial_process as t
from alignset.transforms.workers.trial_process import TrialProcess, trial_process
from tests.support.lethal_work import do

# A process imports for 2 s of CPU, and each halving has one of its own.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def trial() -> Iterator[TrialProcess]:
    with trial_process(do) as trial:
        yield trial


@pytest.mark.parametrize("deed", [b"segv", b"heap"])
def test_who_ends_a_process_by_a_signal_is_named(trial: TrialProcess, deed: bytes):
    assert trial.lethal([b"good", deed]) == {1}


def test_several_of_a_group_and_a_process_that_is_used_again(trial: TrialProcess):
    assert trial.lethal([b"good", b"print", b"term"]) == set()  # a group's stop condemns nobody
    process = trial.process
    assert trial.lethal([b"good"]) == trial.lethal([]) == set()
    assert trial.process is process
    assert trial.lethal([b"abort", b"good", b"good", b"kill"]) == {0, 3}


def test_what_another_image_did_to_the_process_condemns_nobody(trial: TrialProcess):
    assert trial.lethal([b"spoil"]) == set()
    assert trial.lethal([b"good"]) == set()


def test_one_that_hangs(trial: TrialProcess, monkeypatch: pytest.MonkeyPatch):
    assert trial.lethal([b"good"]) == set()
    monkeypatch.setattr(t, "TRIAL_S", 0.5)
    monkeypatch.setattr(t, "START_S", 5.0)  # of the new process in which it is tried again
    assert trial.lethal([b"hang"]) == {0}


@pytest.mark.parametrize(("deed", "said"), [(b"raise", "ValueError"), (b"exit", "status 3")])
def test_what_is_no_signal_is_an_error(trial: TrialProcess, deed: bytes, said: str):
    with pytest.raises(RuntimeError, match=said):
        trial.lethal([deed])


def test_the_last_who_uses_it_ends_it_and_what_it_has_written():
    with trial_process(do) as trial:
        with trial_process(do) as same:
            assert same is trial
            assert trial.lethal([b"good"]) == set()
        process, scratch = trial.process, Path(trial.scratch.name)
        assert process.poll() is None
        assert scratch.exists()
    assert process.poll() is not None
    assert not scratch.exists()
    assert t.SHARED == {}
