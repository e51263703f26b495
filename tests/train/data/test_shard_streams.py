"""What --shards can name, and the bytes of shards from files, web servers, commands and stores."""

import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alignset.train.data.find_shards import ShardSet, find_sets, find_shards
from alignset.train.data.samples import shard_samples
from alignset.train.data.shard_streams import ShardStream, fingerprint
from alignset.train.errors import SettingsError, TrainingError
from alignset.transforms.storage.files import publish
from tests.support.shard_server import hub_of, shard_server
from tests.support.stores import Store, chosen_store, options_of
from tests.support.train_shards import colour_files, colour_shards, write_tar


@pytest.fixture(scope="module")
def three_shards(tmp_path_factory) -> Path:
    return colour_shards(tmp_path_factory.mktemp("a") / "shards", shards=3, each=1)


def test_folders_files_globs_and_numbers(three_shards: Path):
    expected = [f"{three_shards}/0000{i}.tar" for i in range(3)]
    assert find_shards(str(three_shards)) == expected
    assert find_shards(str(three_shards.parent)) == expected  # a dataset's folder
    assert find_shards(f"{three_shards}/*1.tar, {expected[0]}") == [expected[1], expected[0]]
    assert find_shards(f"{three_shards}/{{00000..00002}}.tar") == expected
    assert find_shards(f"{three_shards}/{{00002,00000}}.tar,{expected[1]}") == [
        *(expected[2], expected[0]),
        expected[1],
    ]


def test_urls_and_commands():
    assert find_shards("https://a.example/{08..10}.tar?k=1") == [
        f"https://a.example/{n}.tar?k=1" for n in ("08", "09", "10")
    ]
    command = "pipe:get --range=1,2 x{0..1}.tar | tr a, b"
    assert find_shards(f"https://a.example/0.tar,{command}") == [
        "https://a.example/0.tar",
        *(command.replace("{0..1}", n) for n in "01"),
    ]


def test_nothing_there_is_one_line(three_shards: Path, tmp_path: Path, monkeypatch):
    none = f"{three_shards}/{{00000..00003}}.tar"
    for nothing in ("", ",", str(tmp_path), f"{tmp_path}/none", f"{three_shards},{tmp_path}", none):
        with pytest.raises(SettingsError, match="no shards"):
            find_shards(nothing)
    with pytest.raises(SettingsError, match=r"00003\.tar"):
        find_shards(none)
    with pytest.raises(SettingsError, match="braces do not match"):
        find_shards(f"{three_shards}/{{0.tar")
    for url in ("https://a.example/*.tar", "http://a.example/shards/", "https://a.example"):
        with pytest.raises(SettingsError, match=r"lists nothing: .* as \{00000\.\.00099\}\.tar"):
            find_shards(url)
    with pytest.raises(SettingsError, match="hdfs:// cannot be read here; name a path of this"):
        find_shards("hdfs://there/0.tar")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(SettingsError, match=r"s3:// needs boto3: pip install 'alignset\[aws\]'"):
        find_shards("s3://there/0.tar")


def test_sets_and_their_weights(three_shards: Path):
    zero, one, two = (f"{three_shards}/0000{i}.tar" for i in range(3))
    assert find_sets(f"{zero},{one}") == [ShardSet((zero, one))]
    assert find_sets(f"{zero}::2,{three_shards}/*[12].tar::0.5") == [
        ShardSet((zero,), 2.0),
        ShardSet((one, two), 0.5),
    ]
    assert find_sets("pipe:cat a.tar::3") == [ShardSet(("pipe:cat a.tar",), 3.0)]
    for wrong, says in (
        (f"{zero}::2,{one}", "every part of --shards a weight (A::2,B::1) or none"),
        (f"{zero}::0", "a number larger than 0"),
        (f"{zero}::many", "a number larger than 0"),
        (f"{zero}::nan", "a number larger than 0"),
        (f"{zero}::inf", "a number larger than 0"),
        (f"{zero}::", "a number larger than 0"),
        (f"{three_shards},{two}", "00002.tar is named twice"),
        (f"{three_shards}::1,{two}::2", "00002.tar is named twice"),
    ):
        with pytest.raises(SettingsError, match=re.escape(says)):
            find_sets(wrong)


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

    def wait(wait_s: float) -> None:
        if threading.get_ident() != own:
            sleep(wait_s)
        elif wait_s:
            waited.append(wait_s)

    monkeypatch.setattr(time, "sleep", wait)
    return waited


def test_a_web_server_and_a_command_give_the_same(shard, samples, web):
    assert len(samples) == 41
    url, mark = f"{web.url}/0.tar", fingerprint(str(shard))
    for web.ranges in (True, False):
        web.asked.clear()
        assert list(shard_samples(url)) == samples
        assert len(web.asked) == 1  # one request for one reading
        assert list(shard_samples(url, 38)) == samples[38:]
        assert (fingerprint(url) == mark) == web.ranges
    assert fingerprint(url).endswith(":first")
    assert list(shard_samples(f"pipe:cat {shard}")) == samples
    assert fingerprint("pipe:exit 7") == "command"


@pytest.fixture(params=["s3", "gs", "hf"])
def folder(shard, web, request, monkeypatch) -> Iterator[str]:
    """A folder of a store with that shard."""
    if request.param == "hf":
        with hub_of(web) as root:
            yield root
        return
    store = chosen_store(request, monkeypatch)
    with options_of(store):
        publish(Path(shutil.copy(shard, shard.with_name("moved"))), f"{store.root}/trained/0.tar")
        yield f"{store.root}/trained"


def test_a_store_gives_the_same(shard, samples, folder):
    url = f"{folder}/0.tar"
    for named in (folder, f"{folder}/*.tar", url, f"{folder}/{{0..0}}.tar"):
        assert find_shards(named) == [url]
    assert list(shard_samples(url)) == samples
    assert list(shard_samples(url, 38)) == samples[38:]
    assert fingerprint(url) == fingerprint(str(shard))
    for gone in (f"{folder}/1.tar", "/nowhere/0.tar"):
        with pytest.raises(TrainingError, match=r"r cannot be read at byte 0 \(FileNotFoundError"):
            list(shard_samples(gone))
    with pytest.raises(SettingsError, match=f"no shards at '{folder}/none'"):
        find_shards(f"{folder}/none")
    if not folder.startswith("hf"):
        bucket = f"{folder.rpartition('/')[0]}-2"
        with pytest.raises(SettingsError, match=f"^there is no {bucket}: create it"):
            find_shards(f"{bucket}/a")


def test_a_store_that_refuses_to_list(web):
    web.status = 403
    says = r"cannot be listed .* as \{00000\.\.00099\}\.tar"
    with options_of(Store(web.url, ())), pytest.raises(SettingsError, match=says):
        find_shards("s3://bucket/trained")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_reading_that_is_cut_goes_on_where_it_was(samples, web, waits, ranges):
    web.ranges, web.cuts = ranges, [20_000, 23_000, 20_000, 1_500_000]
    assert list(shard_samples(f"{web.url}/0.tar")) == samples
    starts = [int(asked[6:-1]) for _, asked in web.asked]
    assert starts[:2] == [0, 20_000]
    assert len(starts) == 5


@pytest.mark.parametrize(
    ("ranges", "status", "says", "waited"),
    [
        (True, 200, r"cannot be read at byte 19\d{3} .*cut off", 17),
        (False, 200, r"cannot be read at byte 19\d{3} .*cut off", 17),
        (True, 503, "503", 17),
        (True, 403, "403", 0),
        (True, 404, "FileNotFoundError", 0),
    ],
)
def test_it_gives_up_with_one_line(web, waits, ranges, status, says, waited):
    web.ranges, web.status, web.cuts = ranges, status, [20_000] + [0] * 99
    with pytest.raises(TrainingError, match=rf"0\.tar .*{says}") as raised:
        list(shard_samples(f"{web.url}/0.tar"))
    assert "\n" not in str(raised.value)
    assert len(waits) == waited


@pytest.mark.parametrize("ranges", [True, False])
def test_a_shard_that_changes_meanwhile_is_told(tmp_path, shard, ranges):
    copy = Path(shutil.copy(shard, tmp_path / "0.tar"))
    with shard_server(tmp_path) as web, ShardStream(f"{web.url}/0.tar") as stream:
        web.ranges, web.cuts = ranges, [2_000_000]
        stream.read(1000)
        copy.write_bytes(shard.read_bytes() + b"more")
        with pytest.raises(TrainingError, match="changed while"):
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
    with ShardStream(f"pipe:cat {shard}; sleep 100") as stream:
        stream.read(10)  # and left: the command is ended


def test_fingerprints_tell_both_ends_and_the_size_apart(tmp_path, shard):
    data, path = shard.read_bytes(), tmp_path / "0.tar"
    marks = {fingerprint(str(shard))}
    for changed in (b"x" + data[1:], data[:-1] + b"x", data + b"x"):
        path.write_bytes(changed)
        marks.add(fingerprint(str(path)))
    assert len(marks) == 4
