"""The job graphs that Dataflow would get, made offline: its runner translates and submits none."""

import base64
import bz2
import contextlib
import io
import json
import pickle
import re
import runpy
from pathlib import Path
from types import FunctionType
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner

from alignset.pipeline.runs.work_folder import WorkFolder
from tests.support.command import run, run_args
from tests.support.golden_run import Golden
from tests.support.root import ROOT

FLAGS = (
    "--runner=DataflowRunner",
    "--dry_run=true",
    "--project=my-project",
    "--region=us-central1",
    "--temp_location=gs://bucket/tmp",
    "--job_name=alignset",
)
GROUPING = "beam:transform:group_by_key:v1"
# Beam names these steps itself, within its own Create.
OF_CREATE = re.compile(r"(/Impulse|/FlatMap\(<lambda at core\.py:\d+>\)|/Map\(decode\))$")


class Graph:
    """A job's graph: its leaves by name, and what reads what."""

    def __init__(self, proto: Any) -> None:
        self.proto = proto
        all_ = proto.components.transforms.values()
        self.steps = {t.unique_name: t for t in all_ if not t.subtransforms}
        self.makers = {p: n for n, t in self.steps.items() for p in t.outputs.values()}

    def before(self, name: str) -> set[str]:
        """All steps whose elements, or what came of them, reach this step."""
        makers: set[str] = set()
        todo = [name]
        while todo:
            for collection in self.steps[todo.pop()].inputs.values():
                maker = self.makers[collection]
                if maker not in makers:
                    makers.add(maker)
                    todo.append(maker)
        return makers

    def groupings(self) -> list[str]:
        return [name for name, step in self.steps.items() if step.spec.urn == GROUPING]


def pickled(graph: Graph) -> bytes:
    """All that is pickled in a graph: the names of modules are in it."""
    # By bzip2's first bytes, in base 64; what follows its end by chance is left out.
    found = re.findall(rb"QlpoO[\w+/]+", graph.proto.SerializeToString())
    packed = [base64.b64decode(text[: len(text) // 4 * 4]) for text in found]
    return b"".join(bz2.BZ2Decompressor().decompress(body) for body in packed)


def graphs_of(source: Path) -> list[Graph]:
    """What the command translates where it is started as a user does, as `__main__`."""
    made: list[Graph] = []
    run_pipeline = DataflowRunner.run_pipeline

    def kept(self: DataflowRunner, *args: Any, **kwargs: Any) -> Any:
        result = run_pipeline(self, *args, **kwargs)
        made.append(Graph(result.job.proto_pipeline))
        return result

    command = ["beam_runner.py", f"--input={source}", "--output=gs://bucket/set", *FLAGS]
    err = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(err):
        patch.setattr(DataflowRunner, "run_pipeline", kept)
        patch.setattr("sys.argv", command)
        # Whose handlers would stay: a signal of a later test would end the process of the tests.
        patch.setattr("alignset.signals.run_main", lambda main, name: main(command[1:], name))
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "beam_runner.py"), run_name="__main__")
    assert ended.value.code == 0, err.getvalue()
    said = f"dry run: {len(made)} graphs were made, of 1 splits; nothing was started\n"
    assert err.getvalue() == said
    return made


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> list[Graph]:
    source = tmp_path_factory.mktemp("dataflow") / "pairs.parquet"
    pq.write_table(pa.table({"url": ["http://a.example/1"], "caption": ["a dog"]}), source)
    made = graphs_of(source)
    assert len(made) == 2
    return made


def test_steps_have_names_to_read_and_to_keep(graphs: list[Graph]):
    """No name may tell a line of a source, which another version has elsewhere."""
    for graph in graphs:
        ours = [name for name in graph.steps if not OF_CREATE.search(name)]
        assert [name for name in ours if "lambda" in name or ".py:" in name] == []
    tops = [{name.partition("/")[0] for name in graph.steps} for graph in graphs]
    assert {"Splits", "CountPairs", "FindDistinctPairs", "BuildVocabulary", "JudgePairs"} < tops[0]
    assert {"Shards", "EvaluationIndex", "WriteShards", "FindCopies"} < tops[1]


def test_image_bytes_are_never_shuffled(graphs: list[Graph], plain: Golden):
    """What is grouped is shards' numbers, hashes and rows of images, and what comes of stats: it is
    small."""
    images = graphs[1]
    after = {name for name in images.groupings() if "WriteShards" in images.before(name)}
    tops = {name.partition("/")[0] for name in after}
    assert tops == {"FindCopies"}
    for name in set(images.groupings()) - after:
        assert images.before(name) & {"Shards/Map(decode)"}
    assert len(images.groupings()) >= 3
    stats = list(plain.output.glob("shards/*_stats.json"))
    images_kb = sum(f.stat().st_size for f in plain.output.glob("shards/*.tar")) / len(stats) / 1e3
    assert images_kb > 100
    for path in stats:
        assert len(pickle.dumps(json.loads(path.read_text()))) < 1000


def test_groups_are_of_columns_and_not_of_pickled_rows(graphs: list[Graph]):
    """Each block of hashes crosses as Arrow's IPC; pickled, a slice carries the whole batch."""
    parts = graphs[0].proto.components
    for name in graphs[0].groupings():
        top = name.partition("/")[0]
        if top in ("SpreadSplits", "Planned", "BySplit"):
            continue
        (collection,) = graphs[0].steps[name].inputs.values()
        pair = parts.coders[parts.pcollections[collection].coder_id]
        coders = [parts.coders[coder_id] for coder_id in pair.component_coder_ids]
        while any(c.component_coder_ids for c in coders):
            coders = [
                parts.coders[i] for c in coders for i in c.component_coder_ids or ()
            ] or coders
        specs = [c.spec.urn + str(c.spec.payload) for c in coders]
        assert not specs[-1].startswith("beam:coder:pickled_python:v1b''"), name
        assert "BatchCoder" in specs[-1], (name, specs)


def test_a_worker_of_the_image_stage_is_given_memory(graphs: list[Graph]):
    images = graphs[1]
    step = images.steps["WriteShards"]
    hints = images.proto.components.environments[step.environment_id].resource_hints
    assert int(hints["beam:resources:min_ram_bytes:v1"]) == 4_000_000_000


def test_files_of_this_machine_are_refused(tmp_path: Path):
    flags = [flag for flag in FLAGS if "dry_run" not in flag]
    pq.write_table(pa.table({"url": ["http://a/1"], "caption": ["a dog"]}), tmp_path / "a.parquet")
    ended = run_args(f"--input={tmp_path}/a.parquet", "--output=s3x://bucket/set", *flags)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "Dataflow's workers do not see input" in ended.err


def test_the_dockerfile_has_the_versions_that_are_pinned():
    lines = (ROOT / "Dockerfile").read_text()
    (python, version) = re.findall(r"FROM apache/beam_python([\d.]+)_sdk:(\S+)", lines)[0]
    pinned = re.search(r"^apache-beam==(\S+)", (ROOT / "requirements/gcp.txt").read_text(), re.M)
    assert pinned
    assert version == pinned[1]
    assert f"python{python.replace('.', '')}-template-launcher" in lines
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", lines, re.M)
    assert copied
    assert [n for line in copied for n in line.split() if not (ROOT / n).exists()] == []


def page(folder: Path) -> Path:
    path = folder / "page.html"
    path.write_text('<base href="http://a.example/"><img src="b.jpg" alt="a dog">')
    return path


@pytest.mark.slow
def test_nothing_that_workers_are_sent_is_in_main(tmp_path: Path):
    """None of the three jobs of a run over pages has any: workers lack our `__main__`."""
    graphs = graphs_of(page(tmp_path))
    assert len(graphs) == 3
    wanted = (
        "alignset.transforms.pages.parse_pages",
        "alignset.transforms.corpus.judge_pairs",
        "alignset.transforms.shards.write_shards",
    )
    for graph, module in zip(graphs, wanted, strict=True):
        assert module.encode() in pickled(graph)
        assert b"__main__" not in pickled(graph)
    ours = beam.Pipeline()
    ours | beam.Create([1]) | beam.Map(FunctionType((lambda: 0).__code__, {"__name__": "__main__"}))
    assert b"__main__" in pickled(Graph(ours.to_runner_api()))


def test_a_launcher_that_only_hands_the_pages_over(tmp_path: Path, monkeypatch):
    source, out = page(tmp_path), tmp_path / "set"
    handing = ("--text_only", "--language=", "--template_location=gs://bucket/template")
    with monkeypatch.context() as patched:
        patched.setattr(WorkFolder, "find_pages", lambda folder: None)
        ended = run(source, out, *handing)
    assert ended.status == 0, ended.err
    assert "the pages' job begins" in ended.err.splitlines()[-1]
    assert not (out / "manifest.json").exists()
    ended = run(source, out, *handing)  # when that job has ended
    assert "0 of 1 pairs were kept" in ended.err
    assert "parsing" not in ended.err
    assert (out / "manifest.json").exists()
