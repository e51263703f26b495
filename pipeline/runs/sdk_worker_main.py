"""A worker process of Beam's on this machine, which imports as quickly as the command does.

Beam starts `python -m alignset.pipeline.runs.sdk_worker_main` and passes the rest by variables.
"""

from __future__ import annotations

import importlib
import os
import sys

from alignset.pipeline.runs.beam_patches import USES, quick_imports
from alignset.signals import end_with_parent


def main() -> None:
    """Runs bundles for Beam until the pipeline or the command ends."""
    end_with_parent(os.getppid())
    with quick_imports(os.environ.get(USES, "").split()):
        from apache_beam.runners.worker import sdk_worker_main

        # What it is sent is unpickled by these.
        importlib.import_module("alignset.pipeline.run")
    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
