"""An image is requested once, however many texts it has: as nginx's access log has it."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.command import digests, funnel, kept, samples, succeed
from tests.support.golden import FLAGS, TEXTS
from tests.support.nginx import Nginx, nginx
from tests.support.picture_files import encoded, photograph

pytestmark = pytest.mark.slow
# How many texts each image has; the last one is not there at first.
COUNTS = (1, 1, 1, 2, 2, 3, 5, 8, 13, 21, 34, 1, 1, 4)
LOST = len(COUNTS) - 1
MANY = (*(flag for flag in FLAGS if "_per_" not in flag), "--samples_per_shard=20")
MANY = (*MANY, "--max_texts_per_image=50", "--max_images_per_text=50")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with nginx(tmp_path_factory.mktemp("nginx")) as running:
        for number in range(LOST):
            body = encoded(photograph(700 + number), "JPEG")
            (running.files / f"{number}.jpg").write_bytes(body)
        schemes = ("http", "HTTP")  # other spellings of one URL are one image
        pairs = [
            (
                f"{schemes[at % 2]}{running.url[4:]}/{number}.jpg{'#x' * (at % 3)}",
                TEXTS[(7 * number + at) % len(TEXTS)],
            )
            for number, count in enumerate(COUNTS)
            for at in range(count)
        ]
        columns = {"url": [url for url, _ in pairs], "caption": [text for _, text in pairs]}
        pq.write_table(pa.table(columns), running.folder / "pairs.parquet")
        yield running


def asked(server: Nginx, before: Counter[str]) -> Counter[str]:
    return server.requests() - before


def test_as_many_requests_as_images_and_a_sample_for_each_text(
    server: Nginx, tmp_path: Path
) -> None:
    source, before = server.folder / "pairs.parquet", server.requests()
    succeed(source, tmp_path / "set", *MANY)
    images = Counter(f"/{number}.jpg" for number in range(len(COUNTS)))
    assert asked(server, before) == images | Counter(["/robots.txt"])
    assert len(kept(tmp_path / "set")) == len(samples(tmp_path / "set")) == sum(COUNTS[:LOST])
    assert len(list(tmp_path.glob("set/shards/*.tar"))) > 2
    of_image = Counter(Path(f.url.partition("#")[0]).stem for f in kept(tmp_path / "set"))
    assert of_image == {str(number): count for number, count in enumerate(COUNTS[:LOST])}
    for key, files in samples(tmp_path / "set").items():
        assert files.keys() == {"jpg", "json", "txt"}, key
    assert funnel(tmp_path / "set")["fetch"]["details"] == {"http_404": COUNTS[LOST]}

    before = server.requests()
    (server.files / f"{LOST}.jpg").write_bytes(encoded(photograph(800), "JPEG"))
    try:
        succeed(source, tmp_path / "set", *MANY, "--retry_failed=all")
    finally:
        (server.files / f"{LOST}.jpg").unlink()
    assert asked(server, before) == {f"/{LOST}.jpg": 1}
    assert len(kept(tmp_path / "set")) == sum(COUNTS)


def test_the_order_of_the_input_and_resizing_change_no_byte_and_no_request(
    server: Nginx, tmp_path: Path
) -> None:
    table = pq.read_table(server.folder / "pairs.parquet")
    order = sorted(range(len(table)), key=lambda row: hash((row * 7919) % 97))
    pq.write_table(table.take(order), tmp_path / "pairs.parquet")
    resized = (*MANY, "--resize_mode=border", "--image_size=64")
    before = server.requests()
    succeed(server.folder / "pairs.parquet", tmp_path / "a", *resized)
    assert set(asked(server, before).values()) == {1}
    succeed(tmp_path / "pairs.parquet", tmp_path / "b", *resized, "--batch_rows=5")
    shards = [
        {name: digest for name, digest in digests(tmp_path / out).items() if "shards/" in name}
        for out in ("a", "b")
    ]
    assert shards[0] == shards[1]
    bodies = {row["json"] for row in samples(tmp_path / "a").values()}
    assert len(bodies) == sum(COUNTS[:LOST])
