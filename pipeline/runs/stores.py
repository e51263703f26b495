"""Checks before a start of what a command needs for the places that it names."""

from __future__ import annotations

import os
import re

from apache_beam.options.pipeline_options import PipelineOptions, S3Options

from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.engine import is_dry_run, runner_of
from alignset.pipeline.settings import FILE_FLAGS, Settings
from alignset.transforms.storage.stores import STORES, client, missing_packages, scheme

# Beam's flags, and the variables in which boto3 finds the same, in worker processes too.
_VARIABLES = {
    "s3_access_key_id": "AWS_ACCESS_KEY_ID",
    "s3_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "s3_session_token": "AWS_SESSION_TOKEN",
    "s3_endpoint_url": "AWS_ENDPOINT_URL_S3",
    "s3_region_name": "AWS_DEFAULT_REGION",
    "s3_verify": "AWS_CA_BUNDLE",
}


def set_variables(beam: PipelineOptions) -> S3Options:
    """Puts Beam's flags for S3 where boto3 finds them."""
    flags = beam.view_as(S3Options)
    if flags.s3_access_key_id:
        os.environ.pop("AWS_SESSION_TOKEN", None)  # another key's
    given = {variable: getattr(flags, flag) for flag, variable in _VARIABLES.items()}
    os.environ.update({variable: value for variable, value in given.items() if value})
    client.cache_clear()
    return flags


def check_stores(settings: Settings) -> None:
    """Puts Beam's flags for S3 where boto3 finds them; checks places, packages and credentials.

    Raises:
      UsageError: something is missing, or a place cannot be reached; says what to do.
    """
    flags = set_variables(settings.beam)
    if flags.s3_disable_ssl or flags.s3_api_version:
        raise UsageError("--s3_disable_ssl, --s3_api_version: no effect; pass --s3_endpoint_url")

    named = {
        "input": settings.inputs,
        "output": [settings.output],
        "vocabulary": [settings.vocabulary],
    }
    named["eval_images"] = [exam.partition("=")[2] for exam in settings.eval_images.split(",")]
    paths = [(flag, path) for flag, of_flag in named.items() for path in of_flag if path]
    is_dry = is_dry_run(settings.beam)
    for flag, path in paths:
        if runner_of(settings.beam) == "dataflowrunner" and not is_dry and not scheme(path):
            raise UsageError(
                f"Dataflow's workers do not see {flag} {path!r} of this machine; pass gs://…"
            )
        _check_place(flag, path)
    schemes = {scheme(path) for _, path in paths}
    values = " ".join(getattr(settings, flag) for flag in (*FILE_FLAGS, "images_from"))
    for kind in sorted(schemes.union(re.findall(r"(\w+)://", values))):
        if missing := missing_packages(kind):
            raise UsageError(missing)
    if "s3" in schemes:
        _check_credentials("s3", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
    if "gs" in schemes and not is_dry and "STORAGE_EMULATOR_HOST" not in os.environ:
        how = "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
        _check_credentials("gs", how)


def _check_place(flag: str, path: str) -> None:
    kind = scheme(path)
    if kind and kind not in STORES:
        verb, kinds = "read", "s3://, gs://, hf:// or https://"
        if flag == "output":
            verb, kinds = "written", "s3:// or gs://"
        raise UsageError(
            f"{flag} {path!r}: {kind}:// cannot be {verb} here; pass a path of this machine "
            f"(/mnt/…), {kinds}"
        )
    if flag == "output" and kind in ("http", "https", "hf"):
        raise UsageError(f"{kind}:// can only be read; pass --output=FOLDER, s3://… or gs://…")
    if kind and not path.partition("://")[2].strip("/"):
        raise UsageError(f"{flag} {path!r} has no bucket; pass {kind}://BUCKET/FOLDER")


def _check_credentials(kind: str, how: str) -> None:
    how += ", here and for the workers"
    try:
        if kind == "s3":
            import boto3

            found = boto3.session.Session().get_credentials()
        else:
            import google.auth

            found = google.auth.default()
    except Exception as error:
        raise UsageError(f"no credentials for {kind}:// ({error}): {how}") from error
    if not found:
        raise UsageError(f"no credentials for {kind}://: {how}")
