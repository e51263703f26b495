"""Checks before a start of what a command needs for the object stores that it names."""

from __future__ import annotations

import os
from collections.abc import Iterator

from apache_beam.options.pipeline_options import PipelineOptions, S3Options

from alignset.extras import EXTRAS, how_to_install, is_installed
from alignset.pipeline.command import Command
from alignset.pipeline.errors import UsageError
from alignset.pipeline.job import Job
from alignset.pipeline.runs.engine import runner_of
from alignset.transforms.storage.stores import STORES, scheme

# The modules that reading such paths needs, and what installs them.
NEEDED = {
    "s3": (EXTRAS["aws"], how_to_install("aws")),
    "gs": (EXTRAS["gcp"], how_to_install("gcp")),
    **dict.fromkeys(("http", "https"), (("fsspec", "aiohttp"), "pip install 'fsspec[http]'")),
    "hf": (("fsspec", "huggingface_hub"), "pip install huggingface_hub"),
}


# What boto3 looks at for what Beam's flags say.
_VARIABLES = {
    "s3_access_key_id": "AWS_ACCESS_KEY_ID",
    "s3_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "s3_session_token": "AWS_SESSION_TOKEN",
    "s3_endpoint_url": "AWS_ENDPOINT_URL_S3",
    "s3_region_name": "AWS_DEFAULT_REGION",
    "s3_verify": "AWS_CA_BUNDLE",
}


def set_variables(beam: PipelineOptions) -> None:
    """Has the flags of S3 in this process's environment, where boto3 finds them.

    Raises:
      UsageError: a flag without a variable.
    """
    options = beam.view_as(S3Options)
    for flag, variable in _VARIABLES.items():
        if value := getattr(options, flag):
            os.environ[variable] = value
    if options.s3_disable_ssl or options.s3_api_version:
        raise UsageError(
            "--s3_disable_ssl and --s3_api_version have no effect: pass "
            "--s3_endpoint_url=http://HOST for a store without TLS"
        )


def _named_paths(job: Job) -> Iterator[tuple[str, str]]:
    yield from (("input", path) for path in job.inputs)
    yield "output", job.output
    if job.vocabulary:
        yield "vocabulary", job.vocabulary
    for part in filter(None, job.eval_images.split(",")):
        yield "eval_images", part.partition("=")[2]


def check_stores(command: Command) -> None:
    """Looks for packages and credentials, without which Beam would wait for minutes.

    Raises:
      UsageError: something is missing, or workers elsewhere are to read a file of this machine.
    """
    paths = list(_named_paths(command.job))
    for flag, path in paths:
        if is_dataflow(command) and not scheme(path) and not is_dry_run(command):
            raise UsageError(
                f"Dataflow's workers do not see {flag} {path!r} of this machine; pass gs://…"
            )
        _check_scheme(flag, path)
    if any(scheme(path) == "s3" for _, path in paths):
        _check_s3(command)
    if any(scheme(path) == "gs" for _, path in paths) and not is_dry_run(command):
        _check_gs()
    for flag, path in paths:
        if scheme(path) and not path.partition("://")[2].strip("/"):
            raise UsageError(f"{flag} {path!r} has no bucket; give {scheme(path)}://BUCKET/FOLDER")


def _check_scheme(flag: str, path: str) -> None:
    kind = scheme(path)
    modules, install = NEEDED.get(kind, ((), ""))
    if not all(map(is_installed, modules)):
        raise UsageError(f"{kind}:// needs more packages: {install}")
    if kind in ("http", "https", "hf"):
        if flag == "output":
            raise UsageError(f"{kind}:// can only be read; pass --output=FOLDER, s3://… or gs://…")
    elif kind and kind not in STORES:
        raise UsageError(
            f"{flag} {path!r}: {kind}:// cannot be read here; pass a path of this machine, "
            "s3://, gs://, hf:// or https://"
        )


def _check_s3(command: Command) -> None:
    import boto3

    options = command.beam.view_as(S3Options)
    try:
        credentials = options.s3_access_key_id or boto3.session.Session().get_credentials()
    except Exception as error:
        raise UsageError(f"no credentials for s3://: {error}") from error
    if not credentials:
        raise UsageError(
            "no credentials for s3://: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE, here and for the workers"
        )


def _check_gs() -> None:
    import google.auth

    if "STORAGE_EMULATOR_HOST" in os.environ:
        return
    try:
        google.auth.default()
    except Exception as error:
        raise UsageError(
            "no credentials for gs://: run `gcloud auth application-default login`, or set "
            "GOOGLE_APPLICATION_CREDENTIALS, here and for the workers"
        ) from error


def check_retry(command: Command) -> None:
    """Raises UsageError where --retry_failed is to be run by what only makes a job's graph."""
    template = command.beam.get_all_options().get("template_location")
    if command.job.retry_failed and (template or is_dry_run(command)):
        raise UsageError(
            "--retry_failed looks at what one job has done before it makes the next: "
            "pass it to the command itself, without a template or --dry_run"
        )


def is_dry_run(command: Command) -> bool:
    """Whether Dataflow's graphs are only made and checked."""
    return is_dataflow(command) and bool(command.beam.get_all_options().get("dry_run"))


def is_dataflow(command: Command) -> bool:
    """Whether Dataflow runs it."""
    return runner_of(command.beam) == "dataflowrunner"
