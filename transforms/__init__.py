"""The parts: pure functions over Arrow columns, and the Beam transforms that carry them."""

from contextlib import suppress
from pathlib import Path


def _drop_stale_kernels(folder: Path) -> None:
    """Removes compiled kernels that are older than any source.

    numba looks at the file of a kernel alone, and what it inlines may be in another: an old hash
    would live on in the kernels of other files.
    """
    newest = max((source.stat().st_mtime for source in folder.glob("*.py")), default=0.0)
    for compiled in (folder / "__pycache__").glob("*.nbi"):
        with suppress(OSError):
            if compiled.stat().st_mtime < newest:
                compiled.unlink()


_drop_stale_kernels(Path(__file__).parent)
