"""Places that a command cannot reach are refused before it starts."""

import os
import re
import sys
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from alignset.pipeline.errors import UsageError
from alignset.pipeline.options import make_settings, read_flags
from alignset.pipeline.runs.stores import check_stores


@pytest.fixture(autouse=True)
def variables() -> Iterator[None]:
    """None of a store's; what a command sets goes again."""
    with patch.dict(os.environ):
        for name in [name for name in os.environ if re.match("AWS_|GOOGLE_|STORAGE_", name)]:
            del os.environ[name]
        os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
        os.environ["AWS_SHARED_CREDENTIALS_FILE"] = "/nonexistent"
        os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = "/nonexistent"
        yield


def check(*flags: str) -> None:
    words = {"--input": "in.csv", "--output": "out"} | dict(flag.split("=", 1) for flag in flags)
    check_stores(make_settings(read_flags([f"{name}={value}" for name, value in words.items()])))


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        (
            "--input=hdfs://host/a",
            "input 'hdfs://host/a': hdfs:// cannot be read here; pass a path of this machine "
            "(/mnt/…), s3://, gs://, hf:// or https://",
        ),
        ("--output=file:///a", "cannot be written here; pass a path of this machine (/mnt/…), s3:"),
        ("--output=hf://datasets/me/set", "hf:// can only be read; pass --output=FOLDER, s3://"),
        ("--output=https://host/set", "https:// can only be read"),
        ("--vocabulary=s3://", "vocabulary 's3://' has no bucket; give s3://BUCKET/FOLDER"),
        ("--input=s3://bucket/a", "no credentials for s3://: set AWS_ACCESS_KEY_ID and"),
        ("--eval_images=coco=gs://a/b", "no credentials for gs:// (File /nonexistent was not"),
        ("--input=hf://datasets/me/set", "hf:// needs more packages: pip install huggingface_hub"),
        ("--s3_api_version=2006-03-01", "--s3_api_version: no effect; pass --s3_endpoint_url"),
    ],
)
def test_what_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, flag: str, says: str):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None if "input=hf" in flag else sys)
    with pytest.raises(UsageError) as raised:
        check(flag)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_flags_of_s3_are_variables_of_boto3():
    os.environ["AWS_SESSION_TOKEN"] = "another key's"
    flags = ["--s3_access_key_id=key", "--s3_secret_access_key=secret", "--s3_region_name=here"]
    check("--output=s3://bucket/set", *flags, "--s3_endpoint_url=http://host", "--s3_verify=a.pem")
    assert {name: value for name, value in os.environ.items() if name.startswith("AWS_")} == {
        **{"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
        **{"AWS_DEFAULT_REGION": "here", "AWS_ENDPOINT_URL_S3": "http://host"},
        **{"AWS_CA_BUNDLE": "a.pem", "AWS_EC2_METADATA_DISABLED": "true"},
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }
    check("--output=s3://bucket/set", "--s3_session_token=token")
    assert os.environ["AWS_SESSION_TOKEN"] == "token"
