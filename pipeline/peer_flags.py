"""The flags of similar tools, and what to pass here in their place; flags of earlier versions."""

from __future__ import annotations

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
}


# Names of earlier versions, which are still read from command lines and documents.
RENAMED_FLAGS = {"unwished": "opt_outs"}


def instead_of(flag: str) -> str | None:
    """The flag to pass in place of a peer's, or None where it is not a peer's."""
    here = IMG2DATASET.get(flag, OTHERS.get(flag))
    return f"here give {here}" if here else None
