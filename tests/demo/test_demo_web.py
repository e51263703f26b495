"""The demo's web by itself: same bytes each time, every kind, a server that misbehaves as told."""

import http.client
import io
import json
import tarfile
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignset.demo import __main__ as main
from alignset.demo import serve
from alignset.demo.__main__ import StepError, check_disk, command_line, prepare_web, run
from alignset.demo.compare import compare
from alignset.demo.text_rules import (
    Numbers,
    corpus_of,
    judge,
    kept_text,
    pair_identity,
    url_identity,
)
from alignset.demo.web import build

pytestmark = pytest.mark.slow
REASONS = {
    *("malformed_pair", "duplicate_pair", "wrong_language", "too_few_words", "too_many_words"),
    *("text_on_too_many_images", "image_with_too_many_texts", "rare_token", "fetch_failed"),
    *("not_an_image", "undecodable", "too_small", "too_elongated", "evaluation_overlap", None),
}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("web")
    build(directory, small=True)
    return directory


@pytest.fixture(scope="module")
def port(web: Path):
    with serve.serving(web, 0) as port:
        yield port


def get(port: int, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    return connection.getresponse()


def test_same_bytes_each_time(web: Path, tmp_path: Path):
    build(tmp_path, small=True)
    files = sorted(p.relative_to(web) for p in web.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert [p for p in files if (web / p).read_bytes() != (tmp_path / p).read_bytes()] == []


def test_every_reason_is_there(web: Path):
    truth = pq.read_table(web / "truth.parquet")
    assert truth.column_names == ["url", "caption", "reason", "detail"]
    assert set(truth["reason"].to_pylist()) == REASONS
    assert truth.select(["url", "caption"]).equals(pq.read_table(web / "pairs.parquet"))


def test_frequent_enough_to_be_dropped_and_no_more(web: Path):
    truth = pq.read_table(web / "truth.parquet").to_pylist()
    images, texts = {}, {}
    for row in truth:
        if row["reason"] not in ("malformed_pair", "duplicate_pair", "wrong_language"):
            images.setdefault(kept_text(row["caption"]).casefold(), set()).add(
                url_identity(row["url"])
            )
            texts.setdefault(url_identity(row["url"]), set()).add(
                kept_text(row["caption"]).casefold()
            )
    dropped = {len(images[kept_text(r["caption"]).casefold()]) for r in truth
               if r["reason"] == "text_on_too_many_images"}  # fmt: skip
    kept = {len(images[kept_text(r["caption"]).casefold()]) for r in truth if r["reason"] is None}
    assert (max(kept), min(dropped)) == (10, 11)
    limit = json.loads((web / "flags.json").read_text())["max_texts_per_image"]
    assert max(len(texts[url_identity(r["url"])]) for r in truth if r["reason"] is None) == limit


def test_only_copies_come_near_evaluation_images(web: Path):
    with tarfile.open(web / "eval/00000.tar") as tar:
        names = tar.getnames()
        pictures = [
            Image.open(io.BytesIO(tar.extractfile(n).read())) for n in names if n.endswith("jpg")
        ]
        texts = [tar.extractfile(n).read().decode() for n in names if n.endswith("txt")]
    evaluation = np.array([imagehash.phash(picture).hash.ravel() for picture in pictures])

    def bits(file: Path) -> int:
        return int((evaluation ^ imagehash.phash(Image.open(file)).hash.ravel()).sum(1).min())

    assert max(bits(file) for file in (web / "site/reposts").iterdir()) <= 3
    others = [*(web / "site/scenes").rglob("*.*"), *(web / "site/photos").rglob("*.jpg")]
    assert min(bits(file) for file in others) >= 9
    assert len(set(texts)) == len(pictures) == 30
    truth = pq.read_table(web / "truth.parquet").to_pylist()
    trained = {
        tuple(sorted(row["caption"].split()))
        for row in truth
        if row["caption"] and not row["reason"]
    }
    assert not trained & {tuple(sorted(text.split())) for text in texts}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("http://a/1", "a b c"), ("HTTP://A:80/1#x", " A&#32;B  c")], [None, "duplicate_pair"]),
        ([("http://a/1", "a b"), ("http://a/2", "a b c d e")], ["too_few_words", "too_many_words"]),
        ([("ftp://a/1", "a b c"), ("http://a/1", "&nbsp;"), (None, None)], ["malformed_pair"] * 3),
        ([("http://a/1", "a b c"), ("http://a/2", "a b d")], ["rare_token"] * 2),
        ([(f"http://a/{i}", "a b c") for i in range(3)], ["text_on_too_many_images"] * 3),
        ([("http://a/1", "a b c"), ("http://a/2", "a b c"), ("http://a/1", "c b a")],
         [None, None, "rare_token"]),
        ([("http://a/1", text) for text in ("a b c", "b c a", "c a b")],
         ["image_with_too_many_texts"] * 3),
    ],
)  # fmt: skip
def test_text_rules(rows: list, expected: list):
    size = sum(count > 1 for count in corpus_of(rows).ngrams.values())
    numbers = Numbers(
        max_texts_per_image=2, max_images_per_text=2, max_words=4, vocabulary_size=size
    )
    wanted: dict = defaultdict(Counter)
    for row, reason in zip(rows, expected, strict=True):
        wanted[pair_identity(row)][reason] += 1
    assert judge(rows, numbers) == wanted


def test_comparison_sees_each_way_to_be_wrong():
    truth = pa.table({
        "url": ["http://a/1", "http://a/1", "http://a/2", "http://a/3"],
        "caption": ["x", "X", "y", "z"],
        "reason": [None, "duplicate_pair", "fetch_failed", "too_small"],
        "detail": [None, None, "http_404", None],
    })  # fmt: skip
    right = truth.to_pylist()
    right[0]["reason"], right[1]["reason"] = right[1]["reason"], right[0]["reason"]
    assert compare(truth, right).agreeing == 4
    assert compare(truth, right).differences == []
    for row, change in (
        (0, {"reason": None}),
        (2, {"detail": "timeout"}),
        (3, {"url": "http://a/9"}),
    ):
        wrong = [dict(r) | (change if i == row else {}) for i, r in enumerate(right)]
        assert compare(truth, wrong).agreeing == 3
        assert compare(truth, wrong).differences


def test_misbehaves_as_told(web: Path, port: int):
    scene = "scenes/00/00000.jpg"
    whole = (web / "site" / scene).read_bytes()
    assert get(port, "/status/403/a.jpg").status == 403
    assert [get(port, f"/flaky/{scene}").status for _ in range(2)] == [503, 200]
    assert get(port, f"/moved/{scene}").headers["Location"] == f"/{scene}"
    assert get(port, f"/chunked/{scene}").read() == whole
    with pytest.raises(http.client.IncompleteRead):
        get(port, f"/cut/{scene}").read()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
    connection.request("GET", f"/slow/{scene}")
    with pytest.raises(TimeoutError):
        connection.getresponse()


def test_no_web_and_busy_port_are_said(web: Path, port: int, tmp_path: Path):
    with pytest.raises(OSError, match=r"demo\.web build"), serve.serving(tmp_path, 0):
        pass
    with pytest.raises(OSError, match=f"port {port} .*--port"), serve.serving(web, port):
        pass


def test_failing_command_is_named():
    with pytest.raises(StepError, match=r"^exit status 2 from: alignset look --nix$"):
        run(command_line("look", "--nix"))


def test_web_that_is_there_is_not_built_again(tmp_path: Path, monkeypatch):
    built = []
    monkeypatch.setattr(main, "build", lambda directory, **plan: built.append(plan))
    prepare_web(tmp_path, 8765, small=True)
    prepare_web(tmp_path, 8765, small=True)
    prepare_web(tmp_path, 8766, small=True)
    assert [plan["port"] for plan in built] == [8765, 8766]


def test_full_disk_is_said(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**8))
    with pytest.raises(StepError, match=r"has 100 MB free and the demo needs 1,074"):
        check_disk(tmp_path)
