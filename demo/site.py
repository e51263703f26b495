"""The web while it is built: its files, and a row for each pair with what should happen to it."""

import random
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np

from alignset.demo.language import Languages
from alignset.demo.phrases import nonsense
from alignset.demo.scenes import Scene

HOST = "127.0.0.1"


@dataclass(frozen=True)
class WebPlan:
    """How much of everything. `odd` is the number of pairs of each rare kind."""

    texts: int = 700
    images_per_text: int = 5
    evaluation: int = 200
    photos: int = 19
    frequent: int = 300
    texts_of_popular: int = 1500
    max_texts_per_image: int = 1000
    odd: int = 12


FULL = WebPlan()
SMALL = WebPlan(
    texts=50,
    images_per_text=4,
    evaluation=30,
    photos=3,
    frequent=15,
    texts_of_popular=50,
    max_texts_per_image=30,
    odd=2,
)


@dataclass(frozen=True)
class WebPair:
    """A pair, and why it falls or None where it is kept."""

    url: str | None
    caption: str | None
    reason: str | None = None
    detail: str | None = None


@dataclass
class Site:
    """Collects files and rows. `scenes` are the rendered images: path below the site, and text.
    `pool` are processes that draw and encode."""

    root: Path
    port: int
    plan: WebPlan
    seed: int
    pool: Executor
    rows: list[WebPair] = field(default_factory=list)
    scenes: list[tuple[str, str]] = field(default_factory=list)
    evaluation: list[tuple[Scene, bytes]] = field(default_factory=list)
    evaluation_hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))

    def __post_init__(self) -> None:
        self.languages = Languages(self.pool)
        self.rng = random.Random(self.seed)
        self.new_words = iter(nonsense(self.rng))  # each is used once in the whole web
        self._scene_turn: Iterator[int] | None = None

    def write(self, path: str, data: bytes) -> str:
        """Writes a file of the site; gives its path back."""
        file = self.root / "site" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return path

    def url(self, path: str, host: str = HOST) -> str:
        return f"http://{host}:{self.port}/{path}"

    def add(
        self, path: str, caption: str | None, reason: str | None = None, detail: str | None = None
    ) -> None:
        """Adds a pair whose image is on this site."""
        self.rows.append(WebPair(self.url(path), caption, reason, detail))

    def next_scene(self) -> tuple[str, str]:
        """Another scene's path and text; texts take turns, so that none gets on too many images."""
        if self._scene_turn is None:
            self._scene_turn = cycle(range(len(self.scenes)))
        return self.scenes[next(self._scene_turn)]

    def next_text(self) -> str:
        return self.next_scene()[1]
