"""Attempts at pieces of work, each in a folder of its own. One of those that end is published.

A runner gives work to another worker when it believes the first one dead, which may still run. No
two attempts share a path, so nothing keeps them apart. The first that is whole creates a file that
names it, which works once; from then on anybody may move its files to their places, and again.

Source: atomic commits of task outputs, Dean and Ghemawat (2004), section 3.3.
"""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from alignset.transforms.storage import files as f
from alignset.transforms.storage.stores import may_pass

ATTEMPTS, WINNERS = "attempts", "winners"  # a folder beside a run's plan, and one in it
BEGUN, DONE = "begun", "done.json"


class PublishedError(Exception):
    """Another attempt was whole before, and its files are in their places."""


class Attempt:
    """An attempt at a piece of work; after its block nothing stays of it, but of a whole one that
    could not be published. Where it finds such a one, it publishes that and raises PublishedError.

    Args:
      attempts: the folder of all. It is made, but not the folder around it: the run may have ended.
      work: the name of the piece of work.
      places: where each file belongs that may be made, by its name; last DONE, by which one sees
        that all are there. Empty where nothing is published.

    Attributes:
      folder: of this machine, for the files.
      is_suspect: an attempt before has not ended; perhaps its process died of what it worked on.
    """

    def __init__(self, attempts: str, work: str, places: Mapping[str, str]) -> None:
        self._attempts, self._work, self._places = attempts, work, places
        self._is_whole, earlier = False, attempts_at(attempts, work)
        for name in filter(earlier.get, earlier):
            self._publish(name)
            raise PublishedError
        self.is_suspect = bool(earlier)
        here = attempts if f.is_local(attempts) else None
        for path in (here, f"{here}/{WINNERS}") if here else ():
            Path(path).mkdir(exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{work}-", dir=here))
        self.path = f"{attempts}/{self.folder.name}"
        f.create(f"{self.path}/{BEGUN}", b"")

    def publish(self, done: bytes) -> None:
        """Moves its files to their places, and DONE with these bytes.

        Raises:
          PublishedError: another was whole before.
          RuntimeError: the run has ended, or the command was started again.
        """
        for file in self._places:
            if (self.folder / file).exists():
                f.publish(self.folder / file, f"{self.path}/{file}")
        if not f.create(f"{self.path}/{DONE}", done):
            raise RuntimeError(f"{self.path} was taken for dead when the command was started again")
        self._is_whole = True
        if not self._publish(self.folder.name):
            self._is_whole = False
            raise PublishedError

    def _publish(self, name: str) -> bool:
        """Moves the files of a whole attempt, or of the winner before it; returns which."""
        path = f"{self._attempts}/{WINNERS}/{self._work}"
        while True:
            is_first, winner = f.create(path, name.encode()), name
            if not is_first:
                with f.open_to_read(path) as source:
                    winner = source.read().decode()
            # One may have paused until after its run, whose end removes BEGUN before the winners.
            is_begun = f.exists(f"{self._attempts}/{winner}/{BEGUN}")
            is_there = f.exists(self._places[DONE])  # since then at the latest, if BEGUN has gone
            if is_begun or (is_there and not is_first):
                break
            f.remove(path)
            if winner == name:
                self._is_whole = False
                raise RuntimeError(f"{self._attempts}/{name} is left of a run that has ended")
        if is_there:
            return winner == name and not is_first
        for file, place in self._places.items():
            with suppress(FileNotFoundError):  # there is none, or another has moved it
                f.move(f"{self._attempts}/{winner}/{file}", place)
        return winner == name

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        is_local = f.is_local(self.path)
        stays = error and (self._is_whole or (may_pass(error) and not is_local))
        if not stays:
            f.remove(f"{self.path}/{BEGUN}")
            for file, _ in f.match(self.path) if error else ():
                f.remove(file)
        if not (stays and is_local):
            shutil.rmtree(self.folder, ignore_errors=True)


def attempts_at(attempts: str, work: str) -> dict[str, int | None]:
    """Bytes of DONE of each attempt at a piece of work ("*": at any) that has BEGUN: None where it
    is under way or has died, 0 where the command has started again since."""
    found: dict[str, int | None] = {}
    parent = glob.escape(attempts) if f.is_local(attempts) else attempts
    for path, size in f.match(f"{parent}/{work}-*/*"):  # in the order of the alphabet
        name, file = path.rsplit("/", 2)[1:]
        if file == BEGUN:
            found[name] = None
        elif file == DONE and name in found:
            found[name] = size
    return found


def end_killed(attempts: str, *, forget: bool = False) -> set[str]:
    """Ends all attempts under way, and removes their files; a process that still runs is cut off.
    Returns the names of what they worked on.

    Args:
      forget: whether nobody has died, so that the next attempts are not suspect.
    """
    works, stays = set(), (DONE,) if forget else (BEGUN, DONE)
    for name, size in attempts_at(attempts, "*").items():
        if size is None and f.create(f"{attempts}/{name}/{DONE}", b""):
            works.add(name.rpartition("-")[0])
            for file, _ in f.match(f"{attempts}/{name}"):
                if file.rpartition("/")[2] not in stays:
                    f.remove(file)
    return works
