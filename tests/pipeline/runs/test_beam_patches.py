"""What is changed in Beam, and left alone afterwards."""

import os
import subprocess
from contextlib import suppress

import apache_beam.pipeline
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from alignset.pipeline.runs.beam_patches import beam_patches, quick_imports, worker_environment
from alignset.pipeline.runs.engine import Engine
from tests.support.root import ROOT


def patched() -> dict[str, object]:
    return {
        "workers": vars(SubprocessSDKEnvironment)["from_command_string"],
        "options": PipelineOptions.view_as,
        "notebook": apache_beam.pipeline.alter_label_if_ipython,
    }


@pytest.mark.parametrize("left_out", ["", "imports,workers", "notebook,options", "all"])
def test_beam_is_changed_for_a_pipeline_unless_it_is_left_out(
    left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = patched()
    monkeypatch.setenv("ALIGNSET_WITHOUT_PATCHES", left_out)
    with suppress(OSError), Engine(PipelineOptions([]), "s").pipeline("texts"):
        same = {name for name, now in patched().items() if now is before[name]}
        raise OSError("the disk")
    assert same == {name for name in before if name in left_out or left_out == "all"}
    assert patched() == before


def test_worker_processes_import_what_the_command_needs() -> None:
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
    optional = {"pandas", "google.auth", "boto3", "scipy"}
    for flag, expected in (("--output=s3://a", set()), ("--rules=a.py", optional)):
        with worker_environment([flag]):
            done = subprocess.run([python, "-c", code], cwd="/", capture_output=True, text=True)
        imported = set(done.stdout.split())
        assert imported >= {
            "apache_beam.runners.worker.sdk_worker_main",
            "alignset.pipeline.run",
        }, done.stderr
        assert imported & optional == expected


@pytest.mark.parametrize("path", [None, "/a:/b"])
def test_the_environment_of_workers_is_set_back(
    path: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if path:
        monkeypatch.setenv("PYTHONPATH", path)
    environment = dict(os.environ)
    with suppress(OSError), worker_environment(["--RUNNER=DataflowRunner"]):
        assert os.environ["PYTHONPATH"] == (f"{ROOT}:{path}" if path else str(ROOT))
        with quick_imports(os.environ["ALIGNSET_USES"].split()):
            import google.auth  # noqa: F401
        raise OSError
    assert dict(os.environ) == environment
