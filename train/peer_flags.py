"""The flags of open_clip's training and of earlier versions, and what to pass in their place."""

# Of open_clip 3.3, that have another name or none here.
OPEN_CLIP = {
    "train_data": "--shards, which takes the same names",
    "val_data": "--validate",
    "train_num_samples": "nothing: the samples of the shards are counted",
    "val_num_samples": "--validate_pairs",
    "train_data_upsampling_factors": "weights in --shards, as A::2,B::1",
    "dataset_type": "nothing: shards are WebDataset's",
    "dataset_resampled": "nothing: an epoch has each sample once",
    "csv_img_key": "nothing: shards are trained on, which alignset curate makes",
    "csv_caption_key": "--caption_field, of KEY.json",
    "name": "--run, the folder",
    "logs": "--run, the folder",
    "model": "--image_tower and --text_tower, or --preset",
    "pretrained": "--start_from (an AlignModel), or --image_weights and --text_weights",
    "pretrained_image": "--image_weights",
    "resume": "nothing: the same command resumes from the last checkpoint in --run",
    "lr": "--learning_rate",
    "lr_scheduler": "--schedule",
    "wd": "--weight_decay",
    "warmup": "--warmup_steps",
    "opt": "--optimizer",
    "accum_freq": (
        "--micro_batch_size: --batch_size counts the pairs of a step over all processes and parts"
    ),
    "siglip": "nothing: the loss is ALIGN's, a softmax in both directions",
    "lock_image": "--freeze=image",
    "lock_text": "--freeze=text",
    "grad_checkpointing": "--checkpoint_activations",
    "grad_clip_norm": "--max_gradient_norm",
    "torchcompile": "--compile",
    "local_loss": "nothing: it always is",
    "gather_with_grad": "nothing: it always is",
    "workers": "--decode_threads",
    "save_frequency": "--checkpoint_every, in steps",
    "val_frequency": "--validate_every, in steps",
    "zeroshot_frequency": "--validate_every, in steps",
    "log_every_n_steps": "--log_every",
    "imagenet_val": "--validate_classes",
    "report_to": "--trackers",
    "wandb_project_name": "--trackers=module:name, a tracker of your own",
}
# Flags of earlier versions that changed nothing learned: a run may resume without them.
EARLIER = dict.fromkeys(
    ("wandb_project", "wandb_entity", "wandb_name", "wandb_tags"),
    "--trackers=module:name, a tracker of your own (docs/training.md)",
)
