"""The extras of pyproject.toml, which a plain install leaves out, and the line that names a missing
one."""

from __future__ import annotations

import importlib.util
import sys

# The modules of each extra that decide whether it is there. A test compares them with pyproject.
EXTRAS = {
    "languages": ("pycld2", "py3langid"),
    "pages": ("brotli", "lxml", "resiliparse", "zstandard"),
    "blocklists": ("publicsuffixlist",),
    "pdq": ("pdqhash",),
    "img2dataset": ("img2dataset",),
    "train": (
        *("braceexpand", "yaml", "tokenizers", "torch", "timm"),
        *("tensorboardX", "torchvision", "transformers"),
    ),
    "search": ("h11", "starlette", "uvicorn"),
    "export": ("onnx", "onnxscript"),
    "demo": ("torch", "transformers", "skimage", "sklearn", "matplotlib"),
    "aws": ("boto3",),
    "gcp": ("google.cloud.storage",),
}


def missing_extra(extra: str, feature: str) -> str:
    """Says in one line that a feature needs an extra; empty where its packages are here."""
    absent = [name for name in EXTRAS[extra] if not is_installed(name)]
    return f"{feature} needs {', '.join(absent)}: {how_to_install(extra)}" if absent else ""


def how_to_install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'alignset[{extra}]' ('.[{extra}]' in a clone)"


def extra_of(module: str) -> str:
    """The first extra that brings a module; empty where a plain install has it."""
    names = ((extra, name) for extra, modules in EXTRAS.items() for name in modules)
    # Python may name a package alone: google.cloud where google.cloud.storage is missing.
    return next((extra for extra, name in names if f"{name}.".startswith(f"{module}.")), "")


def explain_missing_package(error: ModuleNotFoundError) -> str:
    """Says in one line what to install for a module that is missing."""
    extra = extra_of(error.name or "")
    install = how_to_install(extra) if extra else "pip install alignset ('.' in a clone)"
    return (
        f"the package {error.name} is not installed for {sys.executable}: {install}, or run this "
        "with .venv/bin/python (make demo makes it)"
    )


def is_installed(module: str) -> bool:
    """Whether a module is here; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor the package that it is in
        return False
