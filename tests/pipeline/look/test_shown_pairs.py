"""The command that looks at a dataset."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from alignset.pipeline.look import sheet
from alignset.pipeline.look.__main__ import main
from tests.support.golden_run import Golden
from tests.support.memory_files import read
from tests.support.small_sets import put, put_funnel, put_rejected, put_shard, put_table


@pytest.fixture
def look(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch):
    """Looks at the set in `folder`: the status, what was printed, what was said."""
    monkeypatch.chdir(tmp_path)

    def command(*flags: str) -> tuple[int, str, str]:
        status = main([folder, *flags], "alignset look")
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


def test_kept_pairs_as_a_table_and_a_picture(folder: str, look, tmp_path: Path):
    own = put_shard(folder, 0, 12) + put_shard(folder, 1, 12)
    put_funnel(folder, 24, {"too_small": 2}, {})
    status, out, err = look("--n=10")
    assert (status, err) == (0, "the image is in look.png\n")
    title, subtitle, empty, header, *rows = out.splitlines()
    assert (title, empty) == (folder[: len(title)], "")
    assert subtitle == "10 of 24 kept pairs, from 2 of 2 shards"
    assert header.split() == ["key", "size", "host", "caption"]
    assert len(rows) == 10
    assert {row.split()[0] for row in rows} <= set(own)
    first = (tmp_path / "look.png").read_bytes()
    assert Image.open(io.BytesIO(first)).format == "PNG"
    assert look("--n=10")[1] == out
    assert (tmp_path / "look.png").read_bytes() == first


def test_the_picture_shows_the_images_and_goes_where_it_is_told(folder: str, look):
    put_shard(folder, 0, 3)
    bodies = []
    for name in ("a", "b"):
        assert look(f"--output={folder}/look/{name}.png")[0] == 0
        bodies.append(read(f"{folder}/look/{name}.png"))
        put(f"{folder}/shards/00000.tar", b"")
    assert len(bodies[0]) > len(bodies[1]) + 5_000


def test_a_run_under_way_says_so(folder: str, look):
    put_shard(folder, 0, 3)
    put_shard(folder, 1, 3, finished=False)
    assert look()[1].splitlines()[1] == "3 kept pairs, from 1 of 1 shard, the run has not ended"


def test_dropped_pairs(folder: str, look):
    put_shard(folder, 0, 1)
    whys = [("fetch_failed", "dns"), ("fetch_failed", "timeout"), ("too_small", None)]
    put_rejected(folder, "images-00000", whys * 2)
    put_rejected(folder, "text-00000", [("rare_token", None)])
    put_funnel(folder, 1, {"fetch_failed": 4, "too_small": 2, "rare_token": 1}, {"dns": 2})
    for reason, subtitle, rows in (
        ("too_small", "2 of 2 pairs dropped for too_small, from 1 of 1 file of dropped pairs", 2),
        ("fetch_failed:dns", "2 of 2 pairs dropped for fetch_failed: dns, from 1 of 1 file", 2),
        ("dropped", "7 of 7 dropped pairs, from 2 of 2 files of dropped pairs", 7),
    ):
        status, out, _ = look(f"--reason={reason}")
        assert status == 0
        assert out.splitlines()[1].startswith(subtitle)
        assert out.splitlines()[3].split()[:3] == ["key", "dropped", "for"]
        assert len(out.splitlines()) == 4 + rows


@pytest.mark.parametrize("ended", [True, False])
def test_a_reason_that_is_not_there_is_answered_with_those_that_are(folder: str, look, ended: bool):
    put_shard(folder, 0, 1)
    put_rejected(folder, "images-00000", [("fetch_failed", "dns"), ("too_small", None)])
    if ended:
        put_funnel(folder, 1, {"fetch_failed": 1, "too_small": 1}, {"dns": 1})
    for reason, said in (
        ("tiny", "for tiny; there are fetch_failed (1), too_small (1)\n"),
        ("rare_token", "for rare_token; there are fetch_failed (1), too_small (1)\n"),
        ("fetch_failed:nix\x1b", "for fetch_failed:nix\\x1b; there are fetch_failed:dns (1)\n"),
    ):
        expected = f"alignset look: no pair was dropped {said}"
        assert look(f"--reason={reason}") == (2, "", expected)


def test_where_nothing_is_kept_it_is_said_what_there_is(folder: str, look):
    put_rejected(folder, "text-00000", [("rare_token", None)])
    status, out, err = look()
    assert (status, out) == (1, "")
    assert "has no kept pair yet, but there are dropped ones" in err
    assert err.count("\n") == 1
    put_rejected(folder, "text-00000", [])
    assert look("--reason=dropped")[0] == 1
    assert "has no dropped pair" in look("--reason=rare_token")[2]


def test_what_cannot_be_read_is_one_line(folder: str, look):
    put_shard(folder, 0, 1)
    put(f"{folder}/shards/00000.parquet", b"no parquet")
    status, out, err = look()
    assert (status, out) == (1, "")
    assert err.startswith("alignset look: failed: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("flag", ["--n=0", "--n=201", "--n=x", "--output=a.jpg", "--nix", "more"])
def test_wrong_flags_are_one_line(look, capsys: pytest.CaptureFixture, flag: str):
    with pytest.raises(SystemExit) as ended:
        look(flag)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("alignset look: ")
    assert said.count("\n") == 1


def test_evaluation_images_are_read_where_a_user_names_them(
    plain: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A manifest may be anybody's, and name any file or address."""
    monkeypatch.chdir(tmp_path)
    opened = list[str]()
    monkeypatch.setattr(sheet, "find_images", lambda path, _names: opened.append(path) or {})
    row = {"key": "0" * 16, "url": "http://h/a", "reason": "evaluation_overlap", "thumbnail": b"x"}
    row |= {"evaluation_set": "exam", "evaluation_image": "1.png", "evaluation_distance": 0.1}
    (tmp_path / "eval").mkdir()
    put(f"{tmp_path}/eval/1.png", b"x")
    put_shard(f"{tmp_path}/set", 0, 1)
    put_table(f"{tmp_path}/set/rejected/images-00000.parquet", pa.Table.from_pylist([row]))
    manifest = json.loads((plain.output / "manifest.json").read_text())
    manifest["evaluation"] = [{"name": "exam", "path": "http://10.0.0.1/1.png", "bytes": 1}]
    put(f"{tmp_path}/set/manifest.json", json.dumps(manifest).encode())
    command = ["set", "--reason=evaluation_overlap"]
    assert main(command) == 0
    assert opened == []
    assert main([*command, "--eval_images=exam=eval"]) == 0
    assert opened == ["eval/1.png"]
    assert main([*command, "--eval_images=exam=nowhere"]) == 2
    for other in (["--reason=too_small"], ["--blocklist=a"], []):
        with pytest.raises(SystemExit):
            main(["set", *other, "--eval_images=exam=eval"])


def test_a_real_set(plain: Golden, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main([str(plain.output), f"--output={tmp_path}/look.png"]) == 0
    assert " kept pairs, from 3 of 3 shards" in capsys.readouterr().out
    assert main([str(plain.output), "--reason=rare_token", f"--output={tmp_path}/no.png"]) == 0
