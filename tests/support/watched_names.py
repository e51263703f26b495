"""Names that are looked up without a fetcher: a loop that watches their sockets."""

import select

from alignset.transforms.fetching.host_names import HostNames
from alignset.transforms.fetching.host_queue import FetchJob


class Watched:
    """The names of one loop, and the sockets that it watches."""

    def __init__(self, timeout_s: float) -> None:
        self.poll = select.epoll()
        self.watched: set[int] = set()
        self.names = HostNames(timeout_s, self.watch)

    def watch(self, fd: int, events: int) -> None:
        if events and fd in self.watched:
            self.poll.modify(fd, events)
        elif events:
            self.poll.register(fd, events)
            self.watched.add(fd)
        elif fd in self.watched:
            self.poll.unregister(fd)
            self.watched.discard(fd)

    def ended(self) -> list[tuple[FetchJob, float, str | None]]:
        for fd, events in self.poll.poll(min(0.5, self.names.due_s())):
            self.names.process(fd, events)
        return list(self.names.finished_jobs())

    def look_up(
        self, jobs: list[FetchJob], at_once: int = 1_000
    ) -> list[tuple[FetchJob, str | None]]:
        """What becomes of all of them, so many at once."""
        waiting, found = list(reversed(jobs)), []
        while len(found) < len(jobs):
            while waiting and len(self.names) < at_once:
                self.names.add(waiting.pop())
            found += [(job, detail) for job, _, detail in self.ended()]
        return found


def job(name: str, left_s: float = 30.0) -> FetchJob:
    return FetchJob(0, "", f"http://{name}/", left_s=left_s)
