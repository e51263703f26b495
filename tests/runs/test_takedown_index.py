"""An index over a dataset gives out nothing that was taken down from the dataset."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.takedown.__main__ import main as takedown
from alignset.train.search.__main__ import main as search
from alignset.train.search.index_files import read_part
from alignset.train.search.opened_index import OpenedIndex
from tests.support.colour_search import ColourModel, answer, index_of, serving
from tests.support.command import succeed
from tests.support.golden import FLAGS, TEXTS
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import small_web

COUNT = 8
ALL = ("--text", "red", "--all", "--format=json")


def listed(folder: Path, line: str) -> str:
    (folder / "take.txt").write_text(f"{line}\n")
    return f"--blocklist={folder}/take.txt"


def stored_keys(index: Path) -> list[str]:
    """The keys of all rows in the files of an index."""
    names = [path.stem for path in (index / "parts").glob("*.arrow")]
    return sorted(key for name in names for key in read_part(index, name)["key"].to_pylist())


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
    rows = {row["url"]: row["key"] for row in OpenedIndex(index).rows.to_pylist()}
    assert len(rows) >= 4
    url, key = next(iter(rows.items()))
    kept = sorted({*rows.values()} - {key})
    with serving(OpenedIndex(index)) as site:
        question = f"{site}/api/search?text=red&fold=false"
        assert key in {of["key"] for of in answer(question)[1]["results"]}
        capsys.readouterr()
        assert takedown([str(out), listed(tmp_path, f"url:{url}")]) == 0
        note = capsys.readouterr().out.splitlines()[-1]
        assert f"search remove INDEX --blocklist={out}/taken_down.u64" in note
        assert sorted(of["key"] for of in answer(question)[1]["results"]) == kept
        told = answer(f"{site}/api/index")[1]
        assert told["pictures"] == len(kept)
        assert key not in {of["key"] for of in told["sample"]}
        assert answer(f"{site}/thumbnails/{key}")[0] == 404
        status, told = answer(f"{site}/api/search?key={key}")
        assert (status, "no image" in told["error"]) == (400, True)
    assert search(["query", str(index), *ALL]) == 0
    results = [json.loads(line)["key"] for line in capsys.readouterr().out.splitlines()]
    assert sorted(results) == kept
    assert search(["query", str(index), "--key", key]) == 2
    # Made again, the index holds these rows no more.
    assert key in stored_keys(index)
    made = index_of(out / "shards", index)
    assert (made.document.rows, made.rows, made.removed_rows) == (len(kept), 0, 1)
    assert stored_keys(index) == kept
    # An index of another place, to which only the file comes.
    other = json.loads((index / "index.json").read_text()) | {"sets": []}
    (index / "index.json").write_text(json.dumps(other))
    assert takedown([str(out), listed(tmp_path, f"key:{kept[0]}")]) == 0
    assert len(OpenedIndex(index).rows) == OpenedIndex(index).pictures == len(kept)
    assert search(["remove", str(index), f"--blocklist={out}/taken_down.u64"]) == 0
    assert kept[0] in capsys.readouterr().out
    assert OpenedIndex(index).row_of(kept[0]) is None
