"""Flags that are not ours: Beam's, similar tools' with what to pass here in their place, and
earlier versions'."""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from alignset.pipeline.errors import UsageError

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

# Of img2dataset 1.47, then of cc2dataset 1.5 and DataComp's downloader where they have others.
IMG2DATASET = {
    "url_list": "--input, which takes files, globs, folders, tar shards and web archives",
    "url_col": "--url_column",
    "caption_col": "--text_column",
    "output_folder": "--output",
    "output_format": "nothing: the output is WebDataset shards, each with a Parquet sidecar",
    "number_sample_per_shard": "--samples_per_shard",
    "thread_count": "--connections",
    "processes_count": "--direct_num_workers, with --direct_running_mode=multi_processing",
    "distributor": "--runner=FlinkRunner or --runner=DataflowRunner",
    "subjob_size": "nothing: a run continues shard by shard",
    "timeout": "--timeout_s, beside --connect_timeout_s and --idle_timeout_s",
    "max_shard_retry": "--retry_failed after the run",
    "min_image_size": "--min_image_side, which an image must be larger than",
    "max_aspect_ratio": "--max_image_aspect, which an image must be below",
    "max_image_area": "--max_image_bytes; images of more than 89 million pixels are always dropped",
    "incremental_mode": "nothing: the same command resumes where it was stopped",
    "skip_reencode": "--resize_mode=original, which is the default",
    "disable_all_reencoding": "--resize_mode=original, which is the default",
    "save_additional_columns": "--columns=NAME,..., or --columns=all",
    "compute_hash": "nothing: SHA-256 and a perceptual hash are always computed",
    "extract_exif": "nothing: EXIF is not kept as a column",
    "bbox_col": "nothing: parts of images are not blurred",
    "enable_wandb": "nothing: funnel.json has the counts",
    "wandb_project": "nothing: funnel.json has the counts",
    "oom_shard_count": "nothing: shards are numbered with five digits",
}
OTHERS = {
    "output_path": "--output",
    "wat_index_count": "--input, which takes the WAT files themselves",
    "wat_count": "--input, which takes the WAT files themselves",
    "document_type": "nothing: the output is pairs of images and alt-texts",
    "source_cc_protocol": "--input, which takes local files, s3:// and gs://",
    "multipart": "nothing: a run is one dataset",
    "shuffle": "nothing: the order of a dataset follows from hashes",
    "resume": "nothing: the same command resumes where it was stopped",
    "spark_builder": "--runner=FlinkRunner or --runner=DataflowRunner",
    "data_dir": "--output",
    "metadata_dir": "--input",
    "download_npz": "nothing: features of images are not made",
    "skip_bbox_blurring": "nothing: parts of images are not blurred",
    # Flags of earlier versions and of other commands.
    "overlap_measure": "nothing: copies of evaluation images are found in one way",
    "overlap_model": "nothing: copies of evaluation images are found by a model of alignset's own",
    "unwished": "--opt_outs",
    "min_similarity": "--score_model too, the model whose scores it is a rule on",
    "version": "--version to alignset itself, before the command",
}


def beam_options(rest: list[str], ours: Iterable[str]) -> PipelineOptions:
    """Beam's options, from the words of a command line that are not flags of ours.

    Args:
      ours: the names of our flags, for hints.

    Raises:
      UsageError: an unknown flag (Beam only warns), or a wrong value.
    """
    # Beam takes half a second to import, and --help needs none of it.
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    from apache_beam.runners import create_runner

    errors = io.StringIO()
    logging.disable(logging.WARNING)  # it would say "Discarding unparseable args" before us
    try:
        with contextlib.redirect_stderr(errors):
            options = PipelineOptions(rest)
            known_flags = options.get_all_options()
            passed_flags = options.get_all_options(retain_unknown_options=True)
    except SystemExit as error:
        message = errors.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise UsageError(f"{message}; see Apache Beam's pipeline options") from error
    finally:
        logging.disable(logging.NOTSET)
    stray = [
        word
        for before, word in zip(["", *rest], rest, strict=False)
        if not word.startswith("-") and (not before.startswith("-") or "=" in before)
    ]
    unknown = sorted(passed_flags.keys() - known_flags.keys())
    if stray:
        raise UsageError(
            f"{stray[0]!r} belongs to no flag: what is read and written are flags too, "
            "--input=FILES and --output=FOLDER"
        )
    if unknown:
        near = difflib.get_close_matches(unknown[0], ["help", *ours, *known_flags], 1)
        hint = f"did you mean --{near[0]}?" if near else "see --help"
        if here := (IMG2DATASET | OTHERS).get(unknown[0]):
            hint = f"here pass {here}"
        raise UsageError(f"unknown flag {unknown[0]!r}; {hint}")
    runner = options.view_as(StandardOptions).runner
    try:
        if runner:
            create_runner(runner)
    except (ValueError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"runner {runner!r} is not to be had here: {reason}") from error
    return options
