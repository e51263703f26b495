"""The demo's web by itself: same bytes each time, every kind, a server that misbehaves as told."""

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.demo import __main__ as main
from alignset.demo import serve
from alignset.demo.__main__ import StepError, check_disk, command_line, prepare_web, run
from alignset.demo.compare import compare
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
