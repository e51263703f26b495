"""`alignset embed`: embeddings of shards and folders as files."""

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest

from alignset.train.search.embed import main
from tests.support.colour_search import ColourModel, picture_folder
from tests.support.train_shards import colour_files, write_tar


def embedded(capsys, *flags: object) -> dict:
    model = ColourModel()
    with mock.patch("alignset.train.model.embed.open_embedder", return_value=model):
        assert main(["--model=colours", *map(str, flags)]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_shards_as_parquet_and_as_npy(tmp_path: Path, capsys):
    files = colour_files(0, 20) | {"x.jpg": b"no image", "x.txt": b"a", "y.txt": b"no file"}
    data = write_tar(tmp_path / "shards" / "0.tar", files).parent
    out = tmp_path / "both.parquet"
    result = embedded(capsys, f"--data={data}", f"--out={out}", "--tower=both", "--batch_size=8")
    assert (result["rows"], result["width"]) == (20, 32)
    assert result["left_out"] == {"no_image": 1, "undecodable": 1}
    table = pq.read_table(out)
    assert table.schema.metadata[b"sha256"].decode() == result["sha256"]
    assert table["key"].to_pylist() == [f"{i:016x}" for i in range(20)]
    assert table["caption"][1].as_py() == "a green picture"
    images, texts = (
        np.array(table[f"{tower}_embedding"].to_pylist(), np.float32) for tower in ("image", "text")
    )
    nearest = (images @ texts.T).argmax(axis=1)
    # Of its own colour; a model that was trained for seconds confuses one on some processors.
    assert sum(near % 8 == row % 8 for row, near in enumerate(nearest.tolist())) >= 16
    for tower, wanted in (("image", images), ("text", texts)):
        npy = tmp_path / f"{tower}.npy"
        embedded(capsys, f"--data={data}", f"--out={npy}", f"--tower={tower}")
        assert np.load(npy).dtype == np.float32
        assert np.array_equal(np.load(npy), wanted)
        assert Path(f"{npy}.keys").read_text().split() == table["key"].to_pylist()


def test_a_folder(tmp_path: Path, capsys):
    data = picture_folder(tmp_path / "data", each=1)
    embedded(capsys, f"--data={data}", f"--out={tmp_path / 'a.parquet'}")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["key", "caption", "url", "image_embedding"]
    row = table.slice(6, 1).to_pylist()[0]
    assert (row["key"], row["caption"]) == ("white/0.jpg", "a white picture, number 0")


@pytest.mark.parametrize(
    ("out", "more", "says"),
    [
        ("a.csv", "--tower=image", "must end with .parquet, or with .npy for one --tower"),
        ("a.npy", "--tower=both", "with .npy for one --tower"),
        ("none/a.npy", "--tower=text", "there is no folder"),
        ("a.npy", "--batch_size=0", "batch_size must be at least 1"),
    ],
)
def test_wrong_flags_are_one_line(out: str, more: str, says: str, tmp_path: Path, capsys):
    assert main(["--model=m", f"--data={tmp_path}", f"--out={tmp_path / out}", more]) == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert printed.count("\n") == 1
    assert not [*tmp_path.iterdir()]
