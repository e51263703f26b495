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

# Flags of img2dataset 1.47; then flags that only cc2dataset 1.5 or DataComp's downloader has.
IMG2DATASET = {
    "url_list": "--input, which takes files, globs, folders, tar shards and web archives",
    "url_col": "--url_column",
    "caption_col": "--text_column",
    "output_folder": "--output",
    "output_format": "nothing: the output is WebDataset shards, each with a Parquet sidecar",
    "number_sample_per_shard": "--samples_per_shard",
    "thread_count": "--connections",
    "processes_count": "--workers",
    "distributor": "--runner=FlinkRunner or --runner=DataflowRunner",
    "subjob_size": "nothing: a run continues shard by shard",
    "timeout": "--timeout_s, beside --connect_timeout_s and --idle_timeout_s",
    "max_shard_retry": "nothing: alignset grow OUT --retry_failed asks again for what failed",
    "min_image_size": "--min_image_side, which an image must be larger than",
    "max_aspect_ratio": "--max_image_aspect, which an image must be below",
    "max_image_area": "--max_image_bytes; images of more than 89 million pixels are always dropped",
    "incremental_mode": "nothing: the same command resumes where it was stopped",
    "skip_reencode": "--resize_mode=original, which is the default",
    "disable_all_reencoding": "--resize_mode=original, which is the default",
    "save_additional_columns": "--columns=NAME,..., or --columns=all",
    "compute_hash": "nothing: SHA-256 and a perceptual hash are always computed",
    "extract_exif": "nothing: EXIF is not kept as a column",
    "bbox_col": "--blur_boxes",
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
    "skip_bbox_blurring": "nothing: boxes are blurred with --blur_boxes=face_bboxes alone",
    # Flags of earlier versions and of other commands.
    "overlap_measure": "nothing: copies of evaluation images are found in one way",
    "overlap_model": "nothing: copies of evaluation images are found by a model of alignset's own",
    "unwished": "--opt_outs",
    "min_similarity": "--score_model too, the model whose scores it is a rule on",
    "like": "nothing: languages are not reduced to one's size",
    "version": "--version to alignset itself, before the command",
    # Words that users try.
    "min_size": "--min_image_side, which an image must be larger than",
    "caption_column": "--text_column",
    "captions": "--text_column",
    "shard_size": "--samples_per_shard",
    **dict.fromkeys(("validation", "validate", "val_split", "val_fraction"), "--holdout"),
    **dict.fromkeys(("dedup", "deduplicate", "dedupe"), "--duplicates=exact or --duplicates=near"),
    **dict.fromkeys(("processes", "num_processes", "jobs", "nproc"), "--workers"),
    "clip_threshold": "--score_model=MODEL with --min_similarity=0.28",
    "rate_limit": "--requests_per_second_per_host",
    "overwrite": "nothing: name another --output, or delete that folder",
    **dict.fromkeys(("limit", "max_samples"), "nothing: make a smaller input"),
}
WORKERS = "direct_num_workers"


def beam_options(rest: list[str], ours: Iterable[str], workers: int = 0) -> PipelineOptions:
    """Beam's options, from the words of a command line that are not flags of ours.

    Args:
      ours: the names of our flags, for hints. workers: processes of this machine, or 0.

    Raises:
      UsageError: an unknown flag (Beam only warns), or a wrong value.
    """
    # Beam takes half a second to import, and --help needs none of it.
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    from apache_beam.runners import create_runner

    twice = [of for of in rest if of.startswith((f"--{WORKERS}", "--direct_running_mode"))]
    if workers and twice:
        raise UsageError(f"{twice[0]} and --workers set the same: pass --workers alone")
    if workers > 1:
        rest = [*rest, f"--{WORKERS}={workers}", "--direct_running_mode=multi_processing"]
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
        near = difflib.get_close_matches(unknown[0], ["help", *ours], 1)
        near = near or difflib.get_close_matches(unknown[0], known_flags, 1, 0.85)
        hint = f"did you mean --{near[0]}?" if near else "see --help"
        if here := (IMG2DATASET | OTHERS).get(unknown[0]):
            hint = f"here pass {here}"
        raise UsageError(f"unknown flag {unknown[0]!r}; {hint}")
    runner = options.view_as(StandardOptions).runner
    is_here = (runner or "DirectRunner").lower() in ("directrunner", "fnapirunner")
    if is_here and known_flags["num_workers"]:
        raise UsageError("--num_workers is Dataflow's: on this machine pass --workers")
    if workers > 0 and not is_here:
        raise UsageError(
            f"--workers are processes of this machine; with --runner={runner} pass "
            f"{'--num_workers' if 'dataflow' in runner.lower() else '--parallelism'}"
        )
    try:
        if runner:
            create_runner(runner)
    except (ValueError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"runner {runner!r} is not to be had here: {reason}") from error
    return options
