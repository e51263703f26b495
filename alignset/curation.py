"""`curate`: the command `alignset curate` as a function."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import TYPE_CHECKING

from alignset.called import EndedError, flag_words, text_of
from alignset.pipeline.command_line import plain_reason, was_interrupted
from alignset.pipeline.errors import FailedRunError, TooLittleKeptError, UsageError
from alignset.pipeline.options import make_settings, read_flags
from alignset.pipeline.runs.beam_patches import plain_logs, worker_environment
from alignset.pipeline.settings import DECLARED
from alignset.transforms.rules.custom import IMPORTING
from alignset.transforms.rules.rule import Limit

if TYPE_CHECKING:
    from alignset.dataset import Dataset

Path = str | os.PathLike[str]
Value = Path | float | bool | Limit | Iterable[Path | Limit] | Mapping[str, Path] | None

# A run sets variables of boto3, and patches of Beam, for its whole process.
_ONE_AT_A_TIME = Lock()


def curate(**flags: Value) -> Dataset:
    """Makes a dataset, or resumes a call that was interrupted: the same arguments, the same bytes.

    Each flag of `alignset curate` is an argument, Beam's too. A list or a dict stands for the text
    with commas: input=["a.parquet", "b.parquet"], eval_images={"imagenet": "val/"}. A rule of
    rules=[...] may be the object itself, which stands for its file. An argument that is None is as
    good as not given. Progress goes to standard error, or in a notebook below
    the cell; quiet=True leaves it out. Calls in several threads run one after another.

    Raises:
      UsageError: an argument is unknown, missing or wrong; says what to do.
      TooLittleKeptError: the dataset is there, and holds almost nothing; says why.
      FailedRunError: the run failed; the same call resumes it.
      KeyboardInterrupt: it was interrupted; the same call resumes it.
    """
    if IMPORTING.get() is not None:  # it would wait for itself
        raise UsageError('a file of rules calls curate: put that below if __name__ == "__main__":')
    words = command_words(flags)
    with _ONE_AT_A_TIME, worker_environment(words):
        output = _run(words)
    from alignset.dataset import Dataset  # with Arrow

    return Dataset(output)


def _run(words: list[str]) -> str:
    """Runs the command; returns the folder that it wrote."""
    settings = make_settings(read_flags(words, "alignset.curate"))
    options = settings.beam.get_all_options()
    for name in ("dry_run", "template_location"):
        if options.get(name):
            raise UsageError(f"{name} makes no dataset: pass --{name} to `alignset curate`")
    from alignset.pipeline.run import run  # with Beam, which takes a second

    try:
        with plain_logs():
            run(settings, show=lambda text: None)  # what is returned has it
    except (UsageError, TooLittleKeptError):
        raise
    except Exception as error:
        if was_interrupted(error):
            raise KeyboardInterrupt("stopped; the same call resumes it") from error
        raise FailedRunError(f"{plain_reason(error)} (the same call tries again)") from error
    return settings.output


def command_words(flags: Mapping[str, Value]) -> list[str]:
    """The command line that arguments stand for.

    Raises:
      UsageError: a value cannot be a flag's.
    """
    if "help" in flags:
        raise UsageError("unknown flag 'help'; help(alignset.curate) lists all")
    words = []
    for name, value in flags.items():
        setting = DECLARED.get(name)
        if name == "input" and isinstance(value, os.PathLike):
            value = [value]
        if name == "input" and isinstance(value, Iterable) and not isinstance(value, str | Mapping):
            value = ",".join(_text(name, path).replace(",", "\\,") for path in value)
        # retry_failed stands alone, and so do flags of Beam's.
        kind = {"has_value": setting is not None and setting.type is bool}
        try:
            words += flag_words(name, value, **kind, is_repeated=setting is None, text=_text)
        except EndedError as error:
            raise UsageError(error.args[0]) from None
    return words


def _text(name: str, value: object) -> str:
    return f"{_file_of(value)}:{value.name}" if isinstance(value, Limit) else text_of(name, value)


def _file_of(rule: Limit) -> str:
    """The file of Python that a rule stands in, which workers and the manifest get."""
    own = getattr(rule.measure.of, "__module__", "")
    files = {
        name: module.__file__
        for name, module in [*sys.modules.items()]
        if (getattr(module, "__file__", None) or "").endswith(".py")
        and any(value is rule for value in [*vars(module).values()])
    }
    if not files:
        raise UsageError(
            f"rules: {rule.name} stands in no file: write it to one (in a notebook begin its cell "
            "with %%writefile my_rules.py), and pass rules=['my_rules.py']"
        )
    # Others may have imported it.
    return str(files[min(files, key=lambda name: (name != own, name == "__main__", name))])


def _describe() -> None:
    """Gives `curate` the signature and the docstring that name each flag, for notebooks."""
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(name, kind, default=setting.default, annotation=setting.type)
        for name, setting in DECLARED.items()
    ]
    beam = inspect.Parameter("beam_options", inspect.Parameter.VAR_KEYWORD)
    curate.__signature__ = inspect.Signature([*parameters, beam])  # type: ignore[attr-defined]
    lines = [f"  {name}: {setting.metadata['help']}" for name, setting in DECLARED.items()]
    curate.__doc__ = "\n".join([inspect.cleandoc(curate.__doc__ or ""), "", "Args:", *lines])


_describe()
