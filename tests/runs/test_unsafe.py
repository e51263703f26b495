"""Unsafe images, by the whole command: dropped and written down, by a made model and the usual."""

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.datasets.facts import find_facts
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.whole_input import find_unsafe_model
from alignset.pipeline.options import parse
from alignset.pipeline.report.histograms import charts_of
from alignset.transforms.safety.model_files import OPEN_NSFW, usual_model
from tests.support.command import funnel, kept, manifest, rejected, run, succeed
from tests.support.golden import FLAGS, TEXTS
from tests.support.golden_run import Golden
from tests.support.onnx_files import mean_colour, write_model
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb

SCORING = tuple(flag for flag in FLAGS if "unsafe" not in flag)
COUNT = 24
OFF = "--unsafe_model= turns it off"


def put(web: SmallWeb, folder: Path, bodies: list[bytes], name: str) -> Path:
    """Serves files, and writes a list of them; returns its path."""
    urls = [f"{web.url}/{name}/{n}" for n in range(len(bodies))]
    web.files |= {f"/{name}/{n}": body for n, body in enumerate(bodies)}
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table({"url": urls, "caption": TEXTS[: len(urls)]}), path)
    return path


def bodies() -> list[bytes]:
    return [encoded(photograph(700 + n), "PNG") for n in range(COUNT)]


def share_of_red(number: int) -> float:
    return float(np.asarray(photograph(700 + number))[:, :, 0].mean() / 255)


def scores(output: Path, folder: str) -> dict[str, float | None]:
    """The score of each caption, of the kept (`shards`) or the dropped (`rejected`)."""
    files = sorted((output / folder).glob("*.parquet"))
    tables = [pq.read_table(file, columns=["caption", "unsafe_score"]) for file in files]
    rows = [row for table in tables for row in table.to_pylist()]
    return {row["caption"]: row["unsafe_score"] for row in rows}


@pytest.fixture(scope="module")
def red(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, float]:
    """A list, the dataset that is made of it where red is unsafe, and the threshold."""
    folder = tmp_path_factory.mktemp("red")
    source, model = put(web, folder, bodies(), "red"), write_model(folder)
    threshold = round(float(np.median([share_of_red(n) for n in range(COUNT)])), 3)
    flags = (f"--unsafe_model={model}", f"--max_unsafe_score={threshold}")
    ended = succeed(source, folder / "set", *SCORING, *flags)
    assert f"images get NSFW scores; {OFF}" in ended.err
    return source, folder / "set", threshold


def test_what_is_above_the_threshold_goes_with_its_score(red: tuple[Path, Path, float]) -> None:
    _, output, threshold = red
    expected = {TEXTS[n]: pytest.approx(share_of_red(n), abs=0.01) for n in range(COUNT)}
    found = scores(output, "shards") | scores(output, "rejected")
    assert found == expected
    assert {row.reason for row in rejected(output)} == {"unsafe"}
    assert min(scores(output, "rejected").values()) > threshold
    assert max(scores(output, "shards").values()) <= threshold + 1e-6
    assert 0 < len(kept(output)) < COUNT


def test_the_documents_tell_of_it(red: tuple[Path, Path, float]) -> None:
    _, output, threshold = red
    steps = {step["step"]: step for step in funnel(output)["steps"]}
    dropped = COUNT - len(kept(output))
    assert steps["safety"] == {
        "step": "safety",
        "seen": COUNT,
        "kept": COUNT - dropped,
        "dropped": {"unsafe": dropped},
    }
    assert list(steps)[-4:] == ["safety", "evaluation", "texts_per_content", "copies"]
    said = manifest(output)
    assert said["rules"]["max_unsafe_score"] == threshold
    assert said["unsafe_model"]["path"] == "model.onnx"
    assert said["unsafe_model"]["sha256"] == hashlib.sha256(mean_colour()).hexdigest()
    card = (output / "README.md").read_text()
    assert "model.onnx" in card
    assert f"above {threshold}" in card


def test_the_report_counts_scores_as_the_files_do(red: tuple[Path, Path, float]) -> None:
    _, output, threshold = red
    charts = charts_of(find_facts(str(output)))
    (chart,) = (chart for chart in charts if chart.name == "Unsafe score")
    sides = (scores(output, "shards"), chart.kept), (scores(output, "rejected"), chart.dropped)
    for of_side, counts in sides:
        for (low, high), count in zip(chart.spans, counts, strict=True):
            # Sidecars have 32 bits of a score: of what is at a threshold either side is right.
            assert count == sum(low < score <= high for score in of_side.values() if score)
    assert sum(chart.dropped) == COUNT - len(kept(output)) > 0
    assert f"--max_unsafe_score={threshold:g}" in [text for _, text in chart.marks]


def test_the_usual_model_without_a_flag(web: SmallWeb, tmp_path: Path) -> None:
    """One of these blobs of colour scores 0.8, the others 0.02 and less."""
    own = [encoded(photograph(n), "PNG") for n in (199, 0, 1, 2)]
    source = put(web, tmp_path, own, "usual")
    succeed(source, tmp_path / "set", *SCORING)
    assert [(row.caption, row.reason) for row in rejected(tmp_path / "set")] == [
        (TEXTS[0], "unsafe")
    ]
    assert scores(tmp_path / "set", "rejected")[TEXTS[0]] > 0.6
    assert len(kept(tmp_path / "set")) == 3
    assert manifest(tmp_path / "set")["unsafe_model"]["sha256"] == OPEN_NSFW.sha256
    integer_model = usual_model(0.5).integer_model
    assert manifest(tmp_path / "set")["unsafe_model"]["integer_model"] == asdict(integer_model)
    assert (
        "those below 0.03 are by its network in integers"
        in (tmp_path / "set" / "README.md").read_text()
    )
    assert "is finished: nothing to do" in succeed(source, tmp_path / "set", *SCORING).err
    # A set that was scored in float alone is another one.
    path = tmp_path / "set" / "manifest.json"
    said = json.loads(path.read_text())
    del said["unsafe_model"]["integer_model"]
    path.write_text(json.dumps(said))
    other = run(source, tmp_path / "set", *SCORING)
    assert other.status == 2
    assert "integer_model" in other.err.replace(" ", "_")


def test_scoring_is_turned_off(plain: Golden) -> None:
    assert find_unsafe_model(parse(["--input=a", "--output=b", "--unsafe_model="])) is None
    assert "--max_unsafe_score=1" in plain.flags
    assert "NSFW" not in plain.said
    assert set(scores(plain.output, "shards").values()) == {None}
    assert "unsafe_model" not in manifest(plain.output)
    assert "are not filtered" in (plain.output / "README.md").read_text()


def test_models_that_cannot_be_used_end_the_command_before_a_fetch(tmp_path: Path) -> None:
    whole = write_model(tmp_path)
    described = json.loads(whole.with_suffix(".json").read_text())
    for name, model, changed, said in (
        ("cut", mean_colour()[:-20], {}, "not a whole ONNX model"),
        ("wide", mean_colour(), {"size": 9}, "9 px"),
        ("bare", mean_colour(), None, "there is no"),
        ("wrong", mean_colour(), {"layout": "CHWN"}, "CHWN"),
    ):
        (tmp_path / f"{name}.onnx").write_bytes(model)
        if changed is not None:
            (tmp_path / f"{name}.json").write_text(json.dumps(described | changed))
        flag = f"--unsafe_model={tmp_path / name}.onnx"
        command = parse(["--input=a.parquet", "--output=set", flag])
        with pytest.raises(UsageError, match=said):
            find_unsafe_model(command)
    for name in ("nsfw", "opennsfw-quick"):
        command = parse(["--input=a.parquet", "--output=set", f"--unsafe_model={name}"])
        with pytest.raises(UsageError, match="must be opennsfw or a file"):
            find_unsafe_model(command)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--max_unsafe_score=1.5",), "max_unsafe_score must be from 0 to 1"),
        (("--max_unsafe_score=-0.1",), "max_unsafe_score must be from 0 to 1"),
        (("--max_unsafe_score=nan",), "max_unsafe_score: must be a number"),
        (("--max_unsafe_score=0.3", "--unsafe_model="), "--max_unsafe_score has no effect"),
        (("--max_unsafe_score=1", "--unsafe_model=a.onnx"), "--unsafe_model has no effect"),
        (("--text_only", "--max_unsafe_score=0.3"), "--max_unsafe_score has no effect"),
    ],
)
def test_flags_that_cannot_be(flags: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        parse(["--input=a.parquet", "--output=set", *flags])
