"""The Python API, and the namespace of alignset.pipeline, alignset.transforms and alignset.train.

    dataset = alignset.curate(input="pairs.parquet", output="OUT", min_image_side=300)

Each name below is imported when it is first used, since Beam takes a second. docs/python.md
describes them.

In a clone the packages are folders at the top level, and this folder has links to them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from alignset.commands import TrainedRun as TrainedRun
    from alignset.commands import evaluate as evaluate
    from alignset.commands import export as export
    from alignset.commands import report as report
    from alignset.commands import search as search
    from alignset.commands import takedown as takedown
    from alignset.commands import train as train
    from alignset.curation import curate as curate
    from alignset.dataset import Dataset as Dataset
    from alignset.dataset import Sample as Sample
    from alignset.pipeline.errors import FailedRunError as FailedRunError
    from alignset.pipeline.errors import TooLittleKeptError as TooLittleKeptError
    from alignset.pipeline.errors import UsageError as UsageError
    from alignset.steps import FetchImages as FetchImages
    from alignset.steps import FilterTexts as FilterTexts
    from alignset.steps import FindCopies as FindCopies
    from alignset.transforms.pages.http_pages import Page as Page
    from alignset.transforms.pages.page_files import PageFiles as PageFiles
    from alignset.transforms.pages.parse_pages import FindPairs as FindPairs

_MODULES = {
    "curate": "curation",
    **dict.fromkeys(("evaluate", "export", "report", "search", "takedown"), "commands"),
    "TrainedRun": "commands",
    "train": "train",  # the package itself, which may be called
    "Dataset": "dataset",
    "Sample": "dataset",
    "FailedRunError": "pipeline.errors",
    "TooLittleKeptError": "pipeline.errors",
    "UsageError": "pipeline.errors",
    # Steps for pipelines of others, and what goes in.
    "Page": "transforms.pages.http_pages",
    "PageFiles": "transforms.pages.page_files",
    "FindPairs": "transforms.pages.parse_pages",
    "FilterTexts": "steps",
    "FetchImages": "steps",
    "FindCopies": "steps",
}
__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from alignset.version import version

        return version()
    if name not in _MODULES:
        raise AttributeError(f"module 'alignset' has no attribute {name!r}")
    module = importlib.import_module(f"alignset.{_MODULES[name]}")
    return module if name == "train" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(
        {*(name for name in globals() if name.startswith("__")), "__version__", *_MODULES}
    )
