"""An index gives out nothing that a takedown took out of its dataset: no pair, image or caption."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.commands import takedown
from alignset.train.search.__main__ import main as search
from alignset.train.search.index_files import ROWS
from alignset.train.search.query import OpenedIndex
from tests.support.colour_search import ColourModel, answer, index_of, serving
from tests.support.command import succeed
from tests.support.golden import FLAGS, TEXTS
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import small_web

COUNT = 8
ALL = ("--text", "red", "--all", "--format=json")


def stored_keys(index: Path) -> list[str]:
    """The keys of all rows in an index's file."""
    return sorted(pq.read_table(index / ROWS)["key"].to_pylist())


def test_a_takedown_reaches_an_index_and_its_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignset.train.model.embed.open_embedder", ColourModel)
    out, index = tmp_path / "set", tmp_path / "index"
    with small_web() as web:
        web.files |= {f"/t/{n}": encoded(photograph(300 + n), "JPEG") for n in range(COUNT)}
        urls = [f"{web.url}/t/{n}" for n in range(COUNT)]
        table = pa.table({"url": urls, "caption": TEXTS[:COUNT]})
        pq.write_table(table, tmp_path / "pairs.parquet")
        succeed(tmp_path / "pairs.parquet", out, *FLAGS)
    index_of(out / "shards", index)
    rows = {row["url"]: row for row in OpenedIndex(index).rows.to_pylist()}
    assert len(rows) >= 4
    url, row = next(iter(rows.items()))
    key, caption = row["key"], row["caption"]
    kept = sorted({of["key"] for of in rows.values()} - {key})
    with serving(OpenedIndex(index)) as site:
        question = f"{site}/api/search?text=red&fold=false"
        assert key in {of["key"] for of in answer(question)[1]["results"]}
        (tmp_path / "take.txt").write_text(f"url:{url}\n")
        capsys.readouterr()
        assert takedown([str(out), f"--blocklist={tmp_path}/take.txt"]) == 0
        note = capsys.readouterr().out.splitlines()[-1]
        assert f"search index --model=MODEL --data={out}/shards --output=INDEX" in note
        found = answer(question)[1]
        assert sorted(of["key"] for of in found["results"]) == kept
        told = answer(f"{site}/api/index")[1]
        assert told["pictures"] == len(kept)
        assert caption not in json.dumps([found, told])
        assert key not in json.dumps([found, told])
        assert answer(f"{site}/thumbnails/{key}")[0] == 404
        status, told = answer(f"{site}/api/search?key={key}")
        assert (status, "no image" in told["error"]) == (400, True)
        # Once, whatever is asked.
        older = f"the index is older than {out}/shards (1 image left out): make it again: "
        assert capsys.readouterr().err.count(older) == 1
        out.rename(tmp_path / "away")
        assert sorted(of["key"] for of in answer(question)[1]["results"]) == kept
        (tmp_path / "away").rename(out)
    assert search(["query", str(index), *ALL]) == 0
    printed = capsys.readouterr()
    assert sorted(json.loads(line)["key"] for line in printed.out.splitlines()) == kept
    assert caption not in printed.out
    assert printed.err.splitlines() == [
        f"{older}alignset search index --model=colours --data={out}/shards --output={index}"
    ]
    assert search(["query", str(index), "--key", key]) == 2
    # Made again, the index has neither its key nor its caption in any file.
    assert key in stored_keys(index)
    assert index_of(out / "shards", index).rows == len(kept)
    assert stored_keys(index) == kept
    files = [path.read_bytes() for path in index.rglob("*") if path.is_file()]
    assert not any(caption.encode() in file for file in files)
    capsys.readouterr()
    assert search(["query", str(index), *ALL]) == 0
    assert capsys.readouterr().err == ""
    out.rename(tmp_path / "moved")
    assert search(["query", str(index), *ALL]) == 0
    assert f"{out}/shards, which the index was made of, is not on a disk" in capsys.readouterr().err
