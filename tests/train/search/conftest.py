"""What the tests of the page's server share."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.train.search.query import OpenedIndex
from tests.support.colour_search import drawn, index_of, picture_bytes, picture_folder, serving
from tests.support.train_shards import COLOURS, write_tar


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> OpenedIndex:
    folder = tmp_path_factory.mktemp("search")
    data, shards = picture_folder(folder / "data", each=12), folder / "shards"
    files = {
        str(path.relative_to(data)): path.read_bytes().partition(b"\nmore")[0]
        for path in sorted(data.rglob("*.*"))
    }
    hostile = {
        "x1.jpg": picture_bytes(drawn(COLOURS["red"], 999)),
        "x1.txt": b"<img src=x onerror=alert(1)> red <script>document.title='owned'</script>",
        "x2.jpg": files["red/1.jpg"],
        "x2.txt": b"a red picture, once more",
        "x3.jpg": picture_bytes(drawn(COLOURS["pink"], 998)),
        "x3.txt": b"pink and unsafe",
    }
    write_tar(shards / "0.tar", files)
    write_tar(shards / "1.tar", hostile)
    rows = [
        {"key": "x1", "url": "javascript:alert(1)", "unsafe_score": 0.1},
        {"key": "x2", "url": "https://img.example.org/red.jpg", "unsafe_score": None},
        {"key": "x3", "url": "https://example.com/pink.jpg", "unsafe_score": 0.9},
    ]
    pq.write_table(pa.Table.from_pylist(rows), shards / "1.parquet")
    index_of(shards, folder / "index")
    return OpenedIndex(folder / "index")


@pytest.fixture(scope="module")
def site(index: OpenedIndex) -> Iterator[str]:
    with serving(index) as url:
        yield url
