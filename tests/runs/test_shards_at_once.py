"""Several shards of a worker under way: the next is asked for while the first waits for answers."""

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.command import funnel
from tests.support.forks import start
from tests.support.golden import FLAGS, TEXTS
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import PATIENT, SmallWeb

# Worker processes import for 12 s of CPU, which take minutes beside busy neighbours.
pytestmark = pytest.mark.timeout(500)
COUNT, A_SHARD = 40, 10


@pytest.mark.parametrize(
    "mode", ["in_memory", pytest.param("multi_processing", marks=pytest.mark.slow)]
)
def test_the_images_of_four_shards_are_asked_for_before_one_has_come(
    web: SmallWeb, tmp_path: Path, mode: str
):
    """By one worker: a shard at a time would ask for some 10 of the 40."""
    web.files |= {f"/{mode}/{n}": encoded(photograph(n), "JPEG") for n in range(COUNT)}
    urls = [f"{web.url}/{mode}/{n}" for n in range(COUNT)]
    texts = [f"{TEXTS[n % len(TEXTS)]} {n}" for n in range(COUNT)]
    pq.write_table(pa.table({"url": urls, "caption": texts}), tmp_path / "pairs.parquet")
    paths = (f"--input={tmp_path}/pairs.parquet", f"--output={tmp_path}/set")
    more = (f"--samples_per_shard={A_SHARD}", "--connections_per_host=100", "--robots_txt=false")
    mode_flags = (f"--direct_running_mode={mode}", "--direct_num_workers=1")
    args, begun = (*paths, *FLAGS, *PATIENT, *more, *mode_flags), len(web.requests)
    with web.holding(lambda _: True):
        process = start("alignset.beam_runner:main", *args)
        while len(web.requests) < begun + COUNT:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert len(list((tmp_path / "set/shards").glob("*.tar"))) == COUNT // A_SHARD
    assert funnel(tmp_path / "set")["fetch"]["failed"] == 0
