"""What is changed in Beam: it does what Beam does, and is left alone afterwards.

Where Beam itself no longer does what a patch is for, a test here fails, and the patch should go.
"""

import importlib
import inspect
import logging
import subprocess
import sys
from collections import Counter
from contextlib import suppress

import apache_beam as beam
import objsize
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.worker import statecache
from apache_beam.runners.worker.statesampler import StateSampler
from apache_beam.transforms import core, userstate
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from apache_beam.transforms.userstate import CombiningValueStateSpec
from apache_beam.utils.counters import CounterFactory

import alignset.pipeline.run
from alignset.pipeline.runs.beam_patches import (
    PATCHES,
    SAMPLING_MS,
    beam_patches,
    quick_imports,
    words_of_command,
)
from alignset.pipeline.runs.engine import Engine
from tests.support.root import ROOT


def test_a_module_that_nothing_uses_does_not_warn_where_beam_starts(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    logger = logging.getLogger("apache_beam.io.mongodbio")
    logger.setLevel(logging.NOTSET)
    monkeypatch.delitem(sys.modules, "apache_beam.io.mongodbio", raising=False)
    monkeypatch.setitem(sys.modules, "bson", None)
    with quick_imports():
        importlib.import_module("apache_beam.io.mongodbio")
    assert [record.message for record in caplog.records if record.name == logger.name] == []


class _Asked(beam.DoFn):
    def process(self, element, times=3):
        yield element * times


def test_signatures_are_those_that_beam_finds_and_their_lists_are_not_shared():
    expected = core.get_function_arguments(_Asked(), "process")
    with beam_patches():
        counted = []
        for _ in range(2):
            names, defaults = core.get_function_arguments(_Asked(), "process")
            counted.append(([*names], [*defaults]))
            names.clear()
        assert core.get_function_args_defaults(_Asked.process) == (["self", *expected[0]], [3])
    assert counted == [expected, expected] == [(["element", "times"], [3])] * 2


def test_views_of_options_share_what_is_set_later_and_are_not_those_of_others():
    options, others = PipelineOptions(["--job_name=a"]), PipelineOptions(["--job_name=b"])
    with beam_patches():
        view = options.view_as(GoogleCloudOptions)
        assert view is options.view_as(GoogleCloudOptions)
        assert others.view_as(GoogleCloudOptions).job_name == "b"
        options.view_as(GoogleCloudOptions).job_name = "c"
        assert view.job_name == "c" == options.get_all_options()["job_name"]
    assert options.view_as(GoogleCloudOptions) is not view


def test_a_stage_does_not_wait_long_for_its_sampler():
    with beam_patches():
        assert StateSampler("a stage", CounterFactory()).sampling_period_ms == SAMPLING_MS


class _Counting(beam.DoFn):
    """With state, which none of the pipelines here has."""

    COUNT = CombiningValueStateSpec("count", sum)

    def process(self, element, count=beam.DoFn.StateParam(COUNT)):  # noqa: B008
        yield element


def test_state_is_what_beam_finds_and_its_sets_are_not_shared():
    with beam_patches():
        for function in (_Counting(), _Asked(), _Counting()):
            expected = {_Counting.COUNT} if isinstance(function, _Counting) else set()
            for _ in range(2):
                states, timers = userstate.get_dofn_specs(function)
                assert (states, timers) == (expected, set())
                states.clear()


def test_what_is_kept_for_later_bundles_weighs_what_beam_says():
    values = [b"a" * 1000, {"a": [1.5, "b"]}, pa.array([1, 2]), (None, "c" * 50)]
    expected = [statecache.get_deep_size(value) for value in values]
    with beam_patches():
        assert [statecache.get_deep_size(value) for value in values] == expected


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
    python, *of_module = environment.command_string.split()
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


def test_no_step_yields_and_returns():
    """Of which Beam warns, and is not asked in a run."""
    assert alignset.pipeline.run
    kinds, steps = [*beam.DoFn.__subclasses__()], set()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind.__module__.startswith("alignset."):
            steps.add(kind)
    assert len(steps) >= 9
    assert [step for step in steps if core._check_fn_use_yield_and_return(step.process)] == []


def what_is_replaced() -> dict[str, object]:
    return {
        "specs": userstate.get_dofn_specs,
        "sizes": statecache.objsize,
        "workers": vars(SubprocessSDKEnvironment)["from_command_string"],
        "sources": core._check_fn_use_yield_and_return,
        "views": PipelineOptions.view_as,
        "signatures": core.get_function_args_defaults,
        "samples": StateSampler.__init__,
    }


def test_beam_is_as_it_was_after_a_pipeline_that_failed():
    before = what_is_replaced()
    engine = Engine(PipelineOptions([]), "s")
    with suppress(OSError), engine.pipeline("texts"):
        assert all(now is not before[name] for name, now in what_is_replaced().items())
        raise OSError("the disk")
    assert what_is_replaced() == before


@pytest.mark.parametrize("name", [*PATCHES, "all"])
def test_each_patch_can_be_left_out(name: str, monkeypatch: pytest.MonkeyPatch):
    before = what_is_replaced()
    monkeypatch.setenv("ALIGNSET_WITHOUT_PATCHES", name)
    with beam_patches():
        left = {patched for patched, now in what_is_replaced().items() if now is before[patched]}
    assert left == ({*PATCHES} if name == "all" else {name})


def test_beam_still_does_what_the_patches_are_for(monkeypatch: pytest.MonkeyPatch):
    asked: Counter[str] = Counter()
    read, listed, specs = [], [], userstate.get_dofn_specs
    view_as, arguments = PipelineOptions.view_as, core.get_function_args_defaults

    def viewed(options: PipelineOptions, kind: type[PipelineOptions]) -> PipelineOptions:
        asked[f"views of {kind.__name__}"] += 1
        return view_as(options, kind)

    def looked_at(function):
        asked[f"signatures of {function.__qualname__}"] += 1
        return arguments(function)

    def specified(function):
        asked[f"specs of {id(function)}"] += 1
        return specs(function)

    monkeypatch.setattr(userstate, "get_dofn_specs", specified)
    monkeypatch.setattr(core, "_check_fn_use_yield_and_return", lambda fn: bool(read.append(fn)))
    monkeypatch.setattr(
        objsize.traverse, "_iter_modules_globals", lambda: listed.append(1) or iter(())
    )
    monkeypatch.setattr(PipelineOptions, "view_as", viewed)
    monkeypatch.setattr(core, "get_function_args_defaults", looked_at)
    with beam.Pipeline(runner=FnApiRunner()) as graph:
        rows = graph | beam.Create([1])
        for number in range(9):
            rows = rows | f"{number}" >> beam.ParDo(_Asked())
    statecache.get_deep_size(b"a")
    most = {
        kind: max(n for name, n in asked.items() if name.startswith(kind))
        for kind in ("views", "signatures", "specs")
    }
    assert most["views"] > 20, "Beam keeps the views of its options: `remembered_views` can go"
    assert most["signatures"] > 20, "Beam keeps signatures: `remembered_signatures` can go"
    assert most["specs"] > 5, "Beam keeps what state a step has: `remembered_specs` can go"
    assert read, "Beam reads no source: `unread_sources` can go"
    assert listed, "Beam lists no module for what it keeps: `plain_sizes` can go"
    period = inspect.signature(StateSampler.__init__).parameters["sampling_period_ms"].default
    assert period > 10 * SAMPLING_MS, "Beam samples as often: `short_samples` can go"
