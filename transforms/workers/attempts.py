"""Attempts at pieces of work, each in a folder of its own: of those that end, one is published.

A runner gives work to another worker when it believes the first one dead, and that one may still
run, on a slow host or cut off from the runner alone. No two attempts share a path, so nothing keeps
them apart. The first that is whole creates a file that names it, which works once. From then on
anybody may move its files to their places, and where that was done it changes nothing.

Source: atomic commits of task outputs, Dean and Ghemawat (2004), section 3.3.
"""

from __future__ import annotations

import glob
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from alignset.transforms.storage import files as f
from alignset.transforms.storage.stores import may_pass

ATTEMPTS, WINNERS = "attempts", "winners"  # a folder beside a run's plan, and one in it
BEGUN, DONE = "begun", "done.json"
UNDER_WAY, KILLED, WHOLE = "under way", "killed", "whole"


class Attempt:
    """An attempt at a piece of work. Where its block ends by an error, a whole one stays.

    Args:
      attempts: the folder of all. It is made, but not the folder around it: the run may have ended.
      work: the name of the piece of work.
      places: where each file belongs that may be made, by its name: last DONE, by which one sees
        that all have been moved. Empty where nothing is published.

    Attributes:
      folder: of this machine, for the files that are made.
      whole: the name of an earlier attempt that is whole and may not be published; "": none.
      is_suspect: an attempt before has not ended: it runs, or its process died, perhaps of what it
        worked on.
    """

    def __init__(self, attempts: str, work: str, places: Mapping[str, str]) -> None:
        self._attempts, self._work, self._places = attempts, work, places
        earlier = states(attempts, work)
        self.whole = next((name for name, state in earlier.items() if state == WHOLE), "")
        self.is_suspect = any(state != WHOLE for state in earlier.values())
        if f.is_local(attempts):
            for path in (attempts, f"{attempts}/{WINNERS}"):
                Path(path).mkdir(exist_ok=True)
        place, prefix = scratch(attempts)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{work}-", dir=place))
        self.name, self._is_whole = self.folder.name.removeprefix(prefix), False
        f.create(f"{attempts}/{self.name}/{BEGUN}", b"")

    def publish(self, done: bytes) -> bool:
        """Moves its files to their places, unless another attempt was whole before; returns whether
        they are there.

        Args:
          done: the bytes of DONE.

        Raises:
          RuntimeError: the run has ended, or the command was started again.
        """
        path = f"{self._attempts}/{self.name}"
        for file in self._places:
            if (self.folder / file).exists():
                f.publish(self.folder / file, f"{path}/{file}")
        if not f.create(f"{path}/{DONE}", done):
            raise RuntimeError(f"{path} was taken for dead when the command was started again")
        self._is_whole = True
        return self.publish_whole(self.name)

    def publish_whole(self, name: str) -> bool:
        """Moves the files of a whole attempt, as `publish` does."""
        path, winner = f"{self._attempts}/{WINNERS}/{self._work}", name
        if not f.create(path, name.encode()):
            with f.open_to_read(path) as source:
                winner = source.read().decode()
        # One may have paused until after the run, whose end removes this file before the other.
        is_of_run = winner != name or f.exists(f"{self._attempts}/{name}/{BEGUN}")
        if not f.exists(self._places[DONE]):
            if not is_of_run:
                f.remove(path)
                raise RuntimeError(f"{self._attempts}/{name} is left of a run that has ended")
            for file, place in self._places.items():
                with suppress(FileNotFoundError):  # there is none, or another has moved it
                    f.move(f"{self._attempts}/{winner}/{file}", place)
        return winner == name

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        stays = error is not None and (self._is_whole or may_pass(error))
        if not stays:
            path = f"{self._attempts}/{self.name}"
            f.remove(f"{path}/{BEGUN}")
            for file, _ in f.match(path) if error else ():
                f.remove(file)
        if not (stays and f.is_local(self._attempts)):
            shutil.rmtree(self.folder, ignore_errors=True)


def states(attempts: str, work: str) -> dict[str, str]:
    """The names of the attempts at a piece of work ("*": any) that are UNDER_WAY, which dead ones
    seem to be until the command starts again; that were KILLED; or that are WHOLE."""
    parent = glob.escape(attempts) if f.is_local(attempts) else attempts
    files: dict[str, dict[str, int]] = {}
    for path, size in f.match(f"{parent}/{work}-*/*"):
        name, file = path.rsplit("/", 2)[1:]
        files.setdefault(name, {})[file] = size
    kinds = {None: UNDER_WAY, 0: KILLED}
    return {
        name: kinds.get(of.get(DONE), WHOLE)
        for name, of in files.items()
        if BEGUN in of or not of.get(DONE, 1)  # else its end removes it just now
    }


def end_killed(attempts: str, *, forget: bool = False) -> set[str]:
    """Ends all attempts under way, and removes their files: a process that still runs is cut off.
    Called where the command starts again, or was interrupted.

    Args:
      forget: whether nobody has died, so that the next attempt is not suspect.

    Returns:
      the names of the pieces of work that these were at.
    """
    ended = set()
    for name, state in states(attempts, "*").items():
        path = f"{attempts}/{name}"
        if state == UNDER_WAY and f.create(f"{path}/{DONE}", b""):
            for file, _ in f.match(path):
                if forget or not file.endswith(f"/{DONE}"):
                    f.remove(file)
            ended.add(name.rpartition("-")[0])
    place, prefix = scratch(attempts)
    for folder in Path(place).glob(f"{prefix}*") if prefix else ():
        shutil.rmtree(folder, ignore_errors=True)
    return ended


def scratch(attempts: str) -> tuple[str, str]:
    """The folder of this machine in which attempts are made, and how their names begin there."""
    if f.is_local(attempts):
        return attempts, ""
    digest = hashlib.sha256(attempts.encode()).hexdigest()[:16]
    return tempfile.gettempdir(), f"alignset-{digest}-"
