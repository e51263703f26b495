"""The words of the live view, and their numbers."""

from collections import Counter

import pytest

from alignset.pipeline.report.process_memory import Memory
from alignset.pipeline.report.progress_text import (
    Done,
    duration,
    progress_line,
    screen_lines,
    verb_of,
    what_is_left,
)
from alignset.pipeline.report.shard_tallies import Tally
from alignset.transforms.shards.shard_progress import Load

TALLY = Tally(
    pairs=100_000,
    kept=61_234,
    arrived=80_000,
    bytes=10**10,
    reasons=Counter(fetch_failed=20_000, too_small=15_000, unsafe=40, not_an_image=3726),
    failures=Counter(dns=9000, timeout=6000, http_404=3000, http_403=1500, reset=500),
)
NEW = Tally(pairs=50_000, kept=30_000, arrived=40_000)
ALL = Done(0.0, 40, 400_000)


@pytest.mark.parametrize(
    ("first", "done", "line"),
    [
        (
            Done(0.0, 0, 0),
            Done(100.0, 12, 118_204, left_s=240),
            "12 of 40 shards, 118,204 of 400,000 pairs, 1,182 pairs/s, 4 min left",
        ),
        (  # after a resume: the rate is of this start alone, and so is what is left
            Done(10.0, 11, 110_000),
            Done(110.0, 12, 118_000, left_s=3525),
            "12 of 40 shards, 118,000 of 400,000 pairs, 80 pairs/s, 59 min left",
        ),
        (
            Done(0.0, 0, 0),
            Done(100.0, 0, 990, left_s=40_320),
            "0 of 40 shards, 990 of 400,000 pairs, 9.9 pairs/s, 11 h 12 min left",
        ),
        (
            Done(0.0, 11, 110_000),
            Done(0.0, 11, 110_000),
            "11 of 40 shards, 110,000 of 400,000 pairs, starting",
        ),
        (
            Done(0.0, 0, 0),
            Done(100.0, 39, 400_000),
            "39 of 40 shards, 400,000 of 400,000 pairs, 4,000 pairs/s, writing the last",
        ),
        (
            Done(0.0, 0, 0),
            Done(100.0, 40, 400_000),
            "40 of 40 shards, 400,000 of 400,000 pairs, 4,000 pairs/s",
        ),
        (
            Done(0.0, 40, 400_000),
            Done(1.0, 40, 400_000),
            "40 of 40 shards, 400,000 of 400,000 pairs",
        ),
    ],
)
def test_the_line(first: Done, done: Done, line: str):
    assert progress_line(first, done, ALL) == line


@pytest.mark.parametrize(
    ("done", "of_all", "line"),
    [
        (Done(0, 0, 0), ALL, "40 shards, 400,000 pairs to fetch"),
        (Done(0, 0, 0), Done(0, 1, 1), "1 shard, 1 pair to fetch"),
        (
            Done(0, 36, 361_000),
            ALL,
            "4 of 40 shards are left, 39,000 of 400,000 pairs to fetch",
        ),
        (Done(0, 39, 390_000), ALL, "1 of 40 shards is left, 10,000 of 400,000 pairs to fetch"),
        (Done(0, 40, 400_000), ALL, "40 shards, each of them whole: what is left is to add up"),
        (Done(0, 0, 0), Done(0, 0, 0), "no pair is left to fetch"),
    ],
)
def test_what_is_left(done: Done, of_all: Done, line: str):
    assert what_is_left(done, of_all, "fetch") == line


@pytest.mark.parametrize(
    ("formats", "verb"),
    [
        ({"parquet"}, "fetch"),
        ({"webdataset"}, "read"),
        ({"csv", "webdataset"}, "read or fetch"),
        ({"csv", "tsv"}, "fetch"),
        (set(), "fetch"),
    ],
)
def test_stored_images_are_read_and_others_fetched(formats: set[str], verb: str):
    assert verb_of(formats) == verb


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (89.4, "89 s"),
        (90, "1 min 30 s"),
        (118, "2 min"),
        (292, "4 min 50 s"),
        (597, "9 min 55 s"),
        (598, "10 min"),
        (5369, "89 min"),
        (5400, "1 h 30 min"),
        (172_700, "47 h 58 min"),
        (172_800, "2 d 0 h"),
        (1e8, "1,157 d 9 h"),
    ],
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text


def test_all_that_is_known_is_on_one_line():
    done = Done(100.0, 12, 118_204, 4_120_000_000, TALLY, NEW, Memory(1_240_000_000, 3), 290)
    assert progress_line(Done(0.0, 0, 0), done, ALL) == (
        "12 of 40 shards, 118,204 of 400,000 pairs, 1,182 pairs/s, 946 images/s, 41 MB/s, "
        "61.2% kept, failed 20.0% (dns 9.0%, timeout 6.0%, http_404 3.0%, http_403 1.5%), "
        "dropped too_small 15.0%, not_an_image 3.7%, 1.2 GB in 3 processes, 4 min 50 s left"
    )


def test_connections_stand_with_what_limits_them():
    done = Done(100.0, 12, 118_204, left_s=30, load=Load(1931, "CPU"))
    assert progress_line(Done(0.0, 0, 0), done, ALL) == (
        "12 of 40 shards, 118,204 of 400,000 pairs, 1,182 pairs/s, 1,931 connections (CPU), "
        "30 s left"
    )


def test_on_a_screen_each_thing_has_its_line_from_the_beginning():
    begun, done = Done(0.0, 0, 0), Done(100.0, 12, 118_204, 10**9, TALLY, NEW, Memory(10**9, 1), 61)
    assert screen_lines(begun, begun, ALL) == [
        "images   0 of 40 shards, 0 of 400,000 pairs, starting",
        "speed    -",
        "kept     -",
        "failed   -",
        "dropped  -",
        "memory   -",
    ]
    assert screen_lines(begun, done, ALL) == [
        "images   12 of 40 shards, 118,204 of 400,000 pairs, 61 s left",
        "speed    1,182 pairs/s, 946 images/s, 10 MB/s",
        "kept     61.2% of the 100,000 pairs of shards that are whole",
        "failed   20.0% (dns 9.0%, timeout 6.0%, http_404 3.0%, http_403 1.5%)",
        "dropped  too_small 15.0%, not_an_image 3.7%",
        "memory   1.0 GB",
    ]


@pytest.mark.parametrize(
    ("fetched", "speed"),
    [(99_900_000, "999 kB/s"), (100_000_000, "1.0 MB/s"), (2 * 10**12, "20,000 MB/s")],
)
def test_bytes_a_second(fetched: int, speed: str):
    line = progress_line(Done(0.0, 0, 0), Done(100.0, 1, 10_000, fetched), ALL)
    assert f", {speed}, " in line
