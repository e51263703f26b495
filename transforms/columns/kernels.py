"""How kernels are compiled, and where they are kept until any source of them changes."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from numba import config, njit

_ROOT = Path(__file__).parents[2]
_IMPORT = re.compile(rb"^ *from alignset\.(transforms[\w.]*) import (\([^)]*\)|.*)", re.MULTILINE)
_USES_NUMBA = re.compile(rb"^from (?:numba|alignset\.transforms\.columns\.kernels) import", re.M)


@lru_cache
def sources_digest(*packages: str) -> str:
    """SHA-256, in hex, of the sources of some of our packages, with their names."""
    return _digest({path: path.read_bytes() for path in _sources(packages)})


def kernels_digest() -> str:
    """SHA-256, in hex, of the sources that have kernels, and of all that these import."""
    texts = {path: path.read_bytes() for path in _sources(["transforms"])}
    waiting = [path for path, text in texts.items() if _USES_NUMBA.search(text)]
    sources: dict[Path, bytes] = {}
    while waiting:
        path = waiting.pop()
        if path not in sources and path in texts:
            sources[path] = texts[path]
            for module, names in _IMPORT.findall(texts[path]):
                place = _ROOT / module.decode().replace(".", "/")
                waiting += [place.with_suffix(".py")]  # or modules of a package:
                waiting += [place / f"{name.decode()}.py" for name in re.findall(rb"\w+", names)]
    return _digest(sources)


def _sources(packages: Iterable[str]) -> list[Path]:
    return [path for name in packages for path in (_ROOT / name).rglob("*.py")]


def _digest(sources: dict[Path, bytes]) -> str:
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.relative_to(_ROOT).as_posix().encode() + sources[path])
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where compiled kernels are kept: beside the sources, or in the user's own cache, or in a new
    folder, for this process alone.

    numba compares a kernel with its own file alone, and what is inlined into it may be in another
    file. The folder is therefore named by the sources of them all.
    """
    name = f"kernels-{kernels_digest()[:16]}"
    places = [_ROOT / "transforms" / "__pycache__"]
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not caches.startswith("~"):  # the user has a home
        places.append(Path(caches, "alignset"))
    for place in places:
        try:
            (place / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(place / name, os.W_OK):
            return place / name
    # numba runs what it finds there, so it must be a folder that nobody else can have made.
    return Path(tempfile.mkdtemp(prefix="alignset-kernels-"))


if not config.CACHE_DIR:  # type: ignore[attr-defined]  # $NUMBA_CACHE_DIR
    config.CACHE_DIR = str(cache_folder())  # type: ignore[attr-defined]

# Whether kernels of these sources were compiled before this process began, which takes 30 s.
WERE_COMPILED = any(Path(config.CACHE_DIR).rglob("*.nbc"))  # type: ignore[attr-defined]

# For kernels that allocate arrays.
allocating_kernel = njit(nogil=True, cache=True)
# For kernels that allocate nothing: they need not count the references to their arrays. numba's
# counts are atomic and stood in the innermost loops: a walk of 26 ms became one of 19.
kernel = njit(nogil=True, cache=True, _nrt=False)  # type: ignore[call-overload]
