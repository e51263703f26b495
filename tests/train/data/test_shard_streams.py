"""Bytes of shards from files, web servers, commands and stores; also where these fail midway."""

import threading
import time
from pathlib import Path

import fsspec
import pytest

from alignset.train.data.samples import shard_samples
from alignset.train.data.shard_streams import ShardStream, fingerprint
from alignset.train.errors import SettingsError, TrainingError
from tests.support.shard_server import shard_server
from tests.support.train_shards import colour_files, write_tar


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    files = colour_files(0, 40) | {"large.jpg": bytes(range(256)) * 20_000}
    return write_tar(tmp_path_factory.mktemp("shards") / "0.tar", files)


@pytest.fixture(scope="module")
def samples(shard: Path) -> list:
    return list(shard_samples(str(shard)))


@pytest.fixture
def web(shard: Path):
    with shard_server(shard.parent) as server:
        yield server


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """How long the test's own thread waits, without a wait; others sleep as they did."""
    waited: list[float] = []
    sleep, own = time.sleep, threading.get_ident()
    monkeypatch.setattr(
        time, "sleep", lambda s: waited.append(s) if threading.get_ident() == own else sleep(s)
    )
    return waited


def test_a_web_server_and_copies_elsewhere_give_the_same(shard, samples, web):
    assert len(samples) == 41
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/0.tar", shard.read_bytes())
    for place in (f"{web.url}/0.tar", "memory://bucket/0.tar", f"file://{shard}"):
        assert list(shard_samples(place)) == samples
        assert list(shard_samples(place, 38)) == samples[38:]
        assert fingerprint(place) == fingerprint(str(shard))
    assert list(shard_samples(f"pipe:cat {shard}")) == samples
    assert web.asked[:2] == [("/0.tar", None), ("/0.tar", None)]  # one request for one reading


@pytest.mark.parametrize("ranges", [True, False])
def test_a_reading_that_is_cut_goes_on_where_it_was(shard, samples, web, waits, ranges):
    web.ranges, web.cuts = ranges, [20_000, 3_000, 0, 1_500_000]
    assert list(shard_samples(f"{web.url}/0.tar")) == samples
    assert len(web.asked) == 5
    assert waits == ([1, 1, 2, 1] if ranges else [1, 2, 4, 1])  # 1 again where it got further
    starts = [int(asked[6:-1]) if asked else 0 for _, asked in web.asked]
    assert starts == sorted(starts)
    # A reader's buffer is lost with it, never more.
    assert 0 < starts[1] <= 20_000


def test_it_gives_up_with_one_line(shard, web, waits):
    web.cuts = [20_000] + [0] * 99
    with pytest.raises(TrainingError, match=r"0\.tar cannot be read at byte \d+ \(OSError: ended"):
        list(shard_samples(f"{web.url}/0.tar"))
    assert waits == [1, 2, 4, 8]
    web.status, waits[:] = 503, []
    with pytest.raises(TrainingError, match="503"):
        list(shard_samples(f"{web.url}/0.tar"))
    assert len(waits) == 4


@pytest.mark.parametrize("status", [403, 404])
def test_what_is_not_there_is_not_asked_for_again(web, waits, status):
    web.status = status
    with pytest.raises(TrainingError, match=str(status)) as raised:
        list(shard_samples(f"{web.url}/0.tar"))
    assert "\n" not in str(raised.value)
    assert (len(web.asked), waits) == (1, [])
    for missing in ("memory://none/0.tar", "/nowhere/0.tar"):
        with pytest.raises(TrainingError, match="FileNotFoundError"):
            list(shard_samples(missing))


def test_a_shard_that_changes_meanwhile_is_told(tmp_path, shard):
    copy = tmp_path / "0.tar"
    copy.write_bytes(shard.read_bytes())
    with shard_server(tmp_path) as web, ShardStream(f"{web.url}/0.tar") as stream:
        web.cuts = [2_000_000]
        stream.read(1000)
        copy.write_bytes(shard.read_bytes() + b"more")
        with pytest.raises(TrainingError, match="was changed while"):
            list(iter(lambda: stream.read(100_000), b""))


def test_commands_are_run_again_and_their_failure_is_told(tmp_path, shard, samples, waits):
    # The first time it prints 30,000 bytes and fails.
    once = (
        f"if mkdir {tmp_path}/ran 2>/dev/null; then head -c 30000 {shard}; exit 3; fi; cat {shard}"
    )
    assert list(shard_samples(f"pipe:{once}")) == samples
    assert waits == [1]
    with pytest.raises(TrainingError, match="exit status 7, out of luck"):
        list(shard_samples("pipe:echo out of luck >&2; exit 7"))
    assert fingerprint("pipe:exit 7") == "command"
    with ShardStream(f"pipe:cat {shard}; sleep 100") as stream:
        stream.read(10)  # and left: the command is ended


def test_a_missing_driver_is_one_line():
    for url in ("nothing://x/0.tar", "hdfs://x/0.tar"):
        with pytest.raises(SettingsError, match=r"fsspec's driver for \w+:// says") as raised:
            list(shard_samples(url))
        assert "\n" not in str(raised.value)


def test_fingerprints_tell_both_ends_and_the_size_apart(tmp_path, shard, web):
    data = shard.read_bytes()
    path = tmp_path / "0.tar"
    fingerprints = {fingerprint(str(shard))}
    for changed in (b"x" + data[1:], data[:-1] + b"x", data + b"x"):
        path.write_bytes(changed)
        fingerprints.add(fingerprint(str(path)))
    assert len(fingerprints) == 4
    web.ranges = False
    assert fingerprint(f"{web.url}/0.tar").endswith(":first")
