"""The namespace: alignset.pipeline, alignset.transforms and alignset.train.

In a clone these are folders at the top level, which the path of this package includes. An installed
wheel has them in this folder.
"""

from pathlib import Path

_FOLDER = Path(__file__).resolve().parent
if not (_FOLDER / "pipeline").is_dir():
    __path__.append(str(_FOLDER.parent))
