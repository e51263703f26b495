"""Several shards of a worker under way: the next is asked for while the first waits for answers."""

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.command import funnel, run_args, run_fork
from tests.support.golden import FLAGS, TEXTS
from tests.support.picture_files import encoded, photograph
from tests.support.serving import serving
from tests.support.small_web import SmallWeb

# Worker processes import for 12 s of CPU, which take minutes beside busy neighbours.
pytestmark = pytest.mark.timeout(900)
COUNT, A_SHARD = 40, 10
LONG_S = 120.0


class GatedWeb(SmallWeb):
    """Answers nobody before all images were asked for or, where that never is, after a while.

    Attributes:
      asked: how many were asked for when the first answer went out.
    """

    def __init__(self) -> None:
        self._gate, self.asked = threading.Event(), 0
        super().__init__()

    @property
    def delay_s(self) -> float:
        if len(self.requests) < COUNT:
            self._gate.wait(LONG_S)
        self.asked = self.asked or len(self.requests)
        self._gate.set()
        return 0.0

    @delay_s.setter
    def delay_s(self, _: float) -> None:
        """It has one of its own."""


@pytest.mark.parametrize(
    "mode", ["in_memory", pytest.param("multi_processing", marks=pytest.mark.slow)]
)
def test_the_images_of_four_shards_are_asked_for_before_one_has_come(tmp_path: Path, mode: str):
    """By one worker: a shard at a time would ask for some 10 of the 40."""
    with serving(GatedWeb()) as web:
        web.files = {f"/{n}": encoded(photograph(n), "JPEG") for n in range(COUNT)}
        urls = [f"{web.url}/{n}" for n in range(COUNT)]
        texts = [f"{TEXTS[n % len(TEXTS)]} {n}" for n in range(COUNT)]
        pq.write_table(pa.table({"url": urls, "caption": texts}), tmp_path / "pairs.parquet")
        paths = (f"--input={tmp_path}/pairs.parquet", f"--output={tmp_path}/set")
        more = (f"--samples_per_shard={A_SHARD}", "--connections_per_host=100", "--timeout_s=200")
        waiting = ("--idle_timeout_s=200", "--robots_txt=false", "--direct_num_workers=1")
        run = run_args if mode == "in_memory" else run_fork
        ended = run(*paths, *FLAGS, *more, *waiting, f"--direct_running_mode={mode}")
    assert ended.status == 0, ended.err
    assert web.asked == COUNT
    assert len(list((tmp_path / "set/shards").glob("*.tar"))) == COUNT // A_SHARD
    assert funnel(tmp_path / "set")["fetch"]["failed"] == 0
