"""Attempts at one piece of work, stopped and killed at each of their steps: one is published."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from alignset.pipeline.runs import work_folder
from alignset.pipeline.runs.work_folder import WorkFolder
from alignset.transforms.storage import files
from alignset.transforms.workers import attempts as module
from alignset.transforms.workers.attempts import (
    DONE,
    Attempt,
    PublishedError,
    attempts_at,
    end_killed,
)
from tests.support.stores import options_of

STEPS = ("publish", "create", "exists", "move", "remove")


class Set:
    """An output whose shard 3 is attempted."""

    def __init__(self, out: str) -> None:
        self.out, self.attempts = out, f"{out}/_temporary/attempts"
        self.places = {name: f"{out}/{name}/00003" for name in ("rejected", "tar", "answers")}
        self.places[DONE] = f"{out}/tar/00003_stats.json"
        files.write_atomically(f"{out}/_temporary/plan", lambda sink: sink.write(b"plan"))

    def attempt(self) -> Attempt:
        return Attempt(self.attempts, "00003", self.places)

    def write(self, label: str, attempt: Attempt) -> None:
        """Writes rejects and a tar, but no responses: a real shard may lack files too."""
        for name in ("rejected", "tar"):
            (attempt.folder / name).write_text(f"{name} of {label}")
        attempt.publish(f"done by {label}".encode())

    def try_again(self, label: str) -> None:
        """As a worker does that is given the shard."""
        try:
            with self.attempt() as attempt:
                self.write(label, attempt)
        except PublishedError:
            pass

    def interrupt(self) -> None:
        """Begins it, and raises what a worker that is stopped does."""
        with pytest.raises(InterruptedError), self.attempt():
            raise InterruptedError

    def published(self) -> str:
        """The label of whose files are there, all of them and no other's."""
        bodies = {path.removeprefix(f"{self.out}/"): read(path) for path in self.there("")}
        label = bodies["tar/00003_stats.json"].removeprefix("done by ")
        assert bodies == {
            "rejected/00003": f"rejected of {label}",
            "tar/00003": f"tar of {label}",
            "tar/00003_stats.json": f"done by {label}",
        }
        return label

    def there(self, folder: str) -> list[str]:
        paths = [path for path, _ in files.match(f"{self.out}/{folder}", hidden=True)]
        return [path for path in paths if folder or "/_temporary/" not in path]

    def forget_shard(self) -> None:
        """What is left of a shard that took another number."""
        for path in self.places.values():
            files.remove(path)


def read(path: str) -> str:
    with files.open_to_read(path) as source:
        return source.read().decode()


@pytest.fixture(params=["local", "s3"])
def new_set(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Set]]:
    """Makes outputs, each a new one."""
    numbers = iter(range(1000))
    if request.param == "local":
        yield lambda: Set(f"{tmp_path}/{next(numbers)}")
        return
    store = request.getfixturevalue("s3")
    with options_of(store):
        yield lambda: Set(f"{store.root}/{tmp_path.name}/{next(numbers)}")


def stepping(monkeypatch: pytest.MonkeyPatch, at_step: Callable[[], None]) -> None:
    """Has each step of an attempt call `at_step` before."""

    def stepped(step: Callable) -> Callable:
        def call(*args):
            at_step()
            return step(*args)

        return call

    steps = {name: stepped(getattr(files, name)) for name in STEPS}
    monkeypatch.setattr(module, "f", SimpleNamespace(**{**vars(files), **steps}))


class KilledError(BaseException):
    pass


def killed_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> list[int]:
    """Ends each attempt after so many steps; what is left of them."""
    left = [steps]

    def at_step() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KilledError

    stepping(monkeypatch, at_step)
    return left


def test_killed_before_each_step(new_set: Callable[[], Set], monkeypatch: pytest.MonkeyPatch):
    """The next worker publishes what is whole, or does it anew and knows what to suspect."""
    seen = set()
    for steps in range(100):
        own = new_set()
        with monkeypatch.context() as patch:
            attempt = own.attempt()  # its block, which cleans up, is never left
            killed_after(patch, steps)
            try:
                own.write("first", attempt)
                break
            except KilledError:
                pass
        is_whole = files.exists(own.places[DONE]) or DONE in str(own.there("_temporary/attempts"))
        if steps % 2:
            assert end_killed(own.attempts) == (set() if is_whole else {"00003"})
        if not is_whole:
            assert own.attempt().is_suspect
        own.try_again("second")
        assert own.published() == ("first" if is_whole else "second"), steps
        seen.add(is_whole)
    assert seen == {False, True}
    assert steps > 8


class SlowWorker(threading.Thread):
    """Attempts the shard, and pauses before one of its steps."""

    def __init__(self, own: Set, steps: int) -> None:
        super().__init__()
        self.own, self.steps = own, steps
        self.left: int | None = None  # before it publishes
        self.paused, self.go_on = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with self.own.attempt() as attempt:
                self.left = self.steps
                self.own.write("slow", attempt)
        except (PublishedError, RuntimeError, OSError) as error:
            self.error = error
        finally:
            self.paused.set()

    def at_step(self) -> None:
        if threading.current_thread() is self and self.left is not None:
            self.left -= 1
            if self.left == -1:
                self.paused.set()
                assert self.go_on.wait(60)


@pytest.mark.parametrize("end", ["", "ended", "renumbered"])
def test_paused_before_each_step(
    end: str, new_set: Callable[[], Set], monkeypatch: pytest.MonkeyPatch
):
    """Another worker publishes the shard meanwhile, and perhaps the run ends."""
    for steps in range(100):
        own = new_set()
        slow = SlowWorker(own, steps)
        with monkeypatch.context() as patch:
            stepping(patch, slow.at_step)
            slow.start()
            assert slow.paused.wait(60)
            is_over = slow.left != -1
            own.try_again("fast")
            label = own.published()
            if end:
                WorkFolder(f"{own.out}/_temporary").clean(own.out)
            if end == "renumbered":
                own.forget_shard()
            slow.go_on.set()
            slow.join()
        assert (own.there("") == []) if end == "renumbered" else (own.published() == label)
        assert not end or own.there("_temporary") == [], (steps, slow.error)
        if not end and label == "fast":
            assert isinstance(slow.error, PublishedError)
        if is_over:
            break
    assert steps > 8


def test_which_attempt_is_suspect(new_set: Callable[[], Set]):
    own = new_set()
    own.interrupt()
    assert [own.attempt().is_suspect for _ in range(2)] == [False, True]  # the one before has died
    assert not Attempt(own.attempts, "00004", {}).is_suspect
    assert [end_killed(own.attempts) for _ in range(2)] == [{"00003", "00004"}, set()]
    assert set(attempts_at(own.attempts, "*").values()) == {0}  # no files but these
    own.attempt()
    assert end_killed(own.attempts, forget=True) == {"00003"}
    assert own.attempt().is_suspect  # of the first two
    own = new_set()
    own.attempt()
    paused = own.attempt()
    end_killed(own.attempts, forget=True)
    assert attempts_at(own.attempts, "*") == {}
    with pytest.raises((RuntimeError, FileNotFoundError)), paused:  # it wakes up
        own.write("first", paused)
    assert own.there("") == []
    assert not own.attempt().is_suspect


def test_one_of_an_earlier_run_in_the_same_place(
    new_set: Callable[[], Set], monkeypatch: pytest.MonkeyPatch
):
    """A user deletes the output and runs the command again. A paused attempt of the deleted run
    wakes up, and pauses again before any of its steps, while the new run publishes the shard."""
    for steps in range(100):
        own = new_set()
        old = own.attempt()
        for path in own.there("_temporary"):
            files.remove(path)
        files.write_atomically(f"{own.out}/_temporary/plan", lambda sink: sink.write(b"plan"))
        with monkeypatch.context() as patch, suppress(KilledError):
            left = killed_after(patch, steps)
            with suppress(RuntimeError, OSError):
                own.write("old", old)
        own.try_again("new")
        with suppress(RuntimeError, OSError, PublishedError), old:
            own.write("old", old)
        assert own.published() == "new", steps
        if left[0] >= 0:
            break
    assert steps > 2


def test_one_that_begins_while_the_run_ends(
    new_set: Callable[[], Set], monkeypatch: pytest.MonkeyPatch
):
    """It reads its plan just before that goes."""
    own, late = new_set(), []
    own.try_again("first")

    def begins(*args):
        if not late and files.exists(f"{own.out}/_temporary/plan"):
            late.append(own.attempt())
        return remove(*args)

    name = "remove_remote" if "://" in own.out else "remove"
    remove = getattr(work_folder, name)
    monkeypatch.setattr(work_folder, name, begins)
    WorkFolder(f"{own.out}/_temporary").clean(own.out)
    own.forget_shard()
    with suppress(RuntimeError, OSError), late[0]:
        own.write("late", late[0])
    assert own.there("") == own.there("_temporary") == []


def test_one_that_was_taken_for_dead_publishes_nothing(new_set: Callable[[], Set]):
    own = new_set()
    for is_over in (False, True):
        attempt = own.attempt()
        if is_over:
            end_killed(own.attempts)
        else:  # before it removes any file
            files.create(f"{attempt.path}/{DONE}", b"")
        with pytest.raises((RuntimeError, FileNotFoundError)), attempt:
            own.write("first", attempt)
        assert own.there("") == []
    own.try_again("second")
    assert own.published() == "second"


@pytest.mark.parametrize("error", [OSError("it is down"), RuntimeError("no new futures")])
def test_a_whole_one_that_cannot_be_published_stays(
    error: Exception, new_set: Callable[[], Set], monkeypatch: pytest.MonkeyPatch
):
    own, move, moved = new_set(), files.move, []

    def stops(*paths: str) -> None:
        moved.append(paths)
        if len(moved) == 2:
            raise error
        move(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(files, "move", stops)
        with pytest.raises(type(error)), own.attempt() as attempt:
            own.write("first", attempt)
    assert end_killed(own.attempts) == set()
    with pytest.raises(PublishedError):
        own.attempt()
    assert own.published() == "first"
