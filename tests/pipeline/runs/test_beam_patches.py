"""What is changed in Beam: it does what Beam does, and is left alone afterwards.

Where Beam itself no longer does what a patch is for, a test here fails, and the patch should go.
"""

import os
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext, suppress
from types import SimpleNamespace

import apache_beam as beam
import apache_beam.pipeline
import pytest
from apache_beam.options.pipeline_options import (
    DebugOptions,
    PipelineOptions,
    StandardOptions,
    TypeOptions,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms import userstate
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from apache_beam.transforms.userstate import CombiningValueStateSpec

from alignset.pipeline.runs.beam_patches import (
    PATCHES,
    beam_patches,
    quick_imports,
    words_of_command,
    worker_environment,
)
from alignset.pipeline.runs.engine import Engine
from tests.support.root import ROOT


class _Asked(beam.DoFn):
    def process(self, element, times=3):
        yield element * times


SPEC = CombiningValueStateSpec("sum", sum)
STATE = beam.DoFn.StateParam(SPEC)


class _Stateful(beam.DoFn):
    def process(self, element, state=STATE):
        yield element


def test_state_of_a_dofn_is_what_beam_finds():
    with beam_patches():
        for _ in range(2):
            assert userstate.get_dofn_specs(_Asked()) == (set(), set())
            assert userstate.get_dofn_specs(_Stateful()) == ({SPEC}, set())


def test_views_of_options_share_their_values_and_no_others():
    options, others = PipelineOptions(["--streaming"]), PipelineOptions(["--streaming"])
    with beam_patches():
        view = options.view_as(StandardOptions)
        assert view.streaming
        view.runner = "FlinkRunner"
        view.streaming = False
        options.view_as(DebugOptions).add_experiment("beam_fn_api")
        for again in (options, view, options.view_as(DebugOptions)):
            assert again.view_as(StandardOptions).runner == "FlinkRunner"
            assert not again.view_as(StandardOptions).streaming
            assert again.view_as(DebugOptions).experiments == ["beam_fn_api"]
        assert others.view_as(StandardOptions).streaming
        assert others.view_as(StandardOptions).runner is None
        assert not others.view_as(DebugOptions).experiments
    assert options.view_as(StandardOptions).runner == "FlinkRunner"


def test_worker_processes_are_told_what_the_command_needs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ALIGNSET_WORDS", raising=False)
    for argv, expected in (
        (["--input=a", "--output=GS://b/c\0"], ["gs://"]),
        (["--runner=DataflowRunner", "s3://a"], ["dataflow", "s3://"]),
        ([], []),
    ):
        with quick_imports(argv):
            pass
        assert words_of_command() == expected
    with beam_patches():
        environment = SubprocessSDKEnvironment.from_command_string("python -m apache_beam")
    ignores, command = environment.command_string.split("; exec ")
    assert ignores == "trap '' INT"
    python, *of_module = command.split()
    assert of_module == ["-m", "alignset.pipeline.runs.sdk_worker_main"]
    code = f"""if True:
        import runpy, sys
        try:
            runpy.run_module({of_module[1]!r}, run_name="__main__")
        except KeyError:  # where Beam has told it nothing
            print(*sys.modules)
        """
    done = subprocess.run([python, "-c", code], cwd=ROOT, capture_output=True, text=True)
    imported = set(done.stdout.split())
    assert imported >= {"apache_beam.runners.worker.sdk_worker_main", "alignset.pipeline.run"}, (
        done.stderr
    )
    assert imported & {"pandas", "google.auth", "boto3", "scipy"} == set()


def what_is_replaced() -> dict[str, object]:
    return {
        "workers": vars(SubprocessSDKEnvironment)["from_command_string"],
        "specs": userstate.get_dofn_specs,
        "views": PipelineOptions.view_as,
        "notebook": apache_beam.pipeline.alter_label_if_ipython,
    }


def test_beam_is_as_it_was_after_a_pipeline_that_failed():
    before = what_is_replaced()
    engine = Engine(PipelineOptions([]), "s")
    with suppress(OSError), engine.pipeline("texts"):
        assert all(now is not before[name] for name, now in what_is_replaced().items())
        raise OSError("the disk")
    assert what_is_replaced() == before


def test_in_a_notebook_beam_tracks_no_pipeline_of_ours(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    shell = SimpleNamespace(get_ipython=lambda: asked.append("IPython"))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    for patch in (beam_patches, nullcontext):
        with patch(), beam.Pipeline(FnApiRunner()) as pipeline:
            pipeline | beam.Create([1])
        assert bool(asked) is (patch is nullcontext)


@pytest.mark.parametrize("name", ["specs", "all"])
def test_each_patch_can_be_left_out(name: str, monkeypatch: pytest.MonkeyPatch):
    before = what_is_replaced()
    monkeypatch.setenv("ALIGNSET_WITHOUT_PATCHES", name)
    with beam_patches():
        left = {patched for patched, now in what_is_replaced().items() if now is before[patched]}
    assert left == ({*PATCHES} if name == "all" else {name})


def test_beam_still_does_what_the_patches_are_for(monkeypatch: pytest.MonkeyPatch):
    looks: Counter[type] = Counter()
    find, parse = userstate.get_dofn_specs, PipelineOptions.view_as

    def looked_for(dofn):
        looks[type(dofn)] += 1
        return find(dofn)

    def parsed(options, kind):
        looks[kind] += 1
        return parse(options, kind)

    monkeypatch.setattr(userstate, "get_dofn_specs", looked_for)
    monkeypatch.setattr(PipelineOptions, "view_as", parsed)
    with beam.Pipeline(runner=FnApiRunner()) as graph:
        rows = graph | beam.Create([1])
        for number in range(9):
            rows = rows | f"{number}" >> beam.ParDo(_Asked())
    assert looks[_Asked] > 20, "Beam keeps specs: `remembered_specs` can go"
    assert looks[TypeOptions] > 20, "Beam keeps views: `remembered_views` can go"


@pytest.mark.parametrize("before", [None, "/a:/b"])
def test_workers_find_the_sources_and_what_flags_need(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.delenv("ALIGNSET_WORDS", raising=False)
    if before:
        monkeypatch.setenv("PYTHONPATH", before)
    environment = dict(os.environ)
    with suppress(OSError), worker_environment(["--input=s3://a/b"]):
        assert os.environ["PYTHONPATH"] == (f"{ROOT}:{before}" if before else str(ROOT))
        assert words_of_command() == ["s3://"]
        raise OSError
    assert dict(os.environ) == environment
