import pytest

from pipeline.curate import index_folder


@pytest.mark.parametrize(
    ("out", "folder"),
    [
        ("/data/set", "/data/set.eval_index"),
        ("s3://bucket/set", "s3://bucket/set.eval_index"),
        ("s3://bucket", "s3://bucket/eval_index"),
    ],
)
def test_the_index_lies_beside_the_output(out: str, folder: str) -> None:
    assert index_folder(out) == folder
