"""open_clip's side of `train_step.py`: its own train_one_epoch on the same AlignModel."""

import argparse
import math
from types import SimpleNamespace

from benchmarks.step_inputs import (
    MAX_TOKENS,
    VOCABULARY,
    WARM_UP,
    captions,
    pixels,
    settings,
    tokenizer,
)


def open_clip(flags: argparse.Namespace, free: bool) -> list[float]:
    """Seconds of each step of open_clip's train_one_epoch."""
    import torch
    from open_clip import ClipLoss
    from open_clip_train.train import train_one_epoch

    if free:
        from alignset.train.runs.processes import keep_freed_memory

        keep_freed_memory()
    torch.manual_seed(0)
    model = _clip_model(flags).train()
    if free:
        model.to(memory_format=torch.channels_last)
    device = torch.device(flags.device)
    gpu = device.type == "cuda"
    model.to(device)
    if gpu:  # as open_clip_train/main.py sets them
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.deterministic = False
    optimizer = _adamw(model, free)
    times: list[float] = []
    loader = _Loader(flags, free, times)
    data = {"train": SimpleNamespace(set_epoch=lambda epoch: None, dataloader=loader)}
    arguments = SimpleNamespace(
        device=flags.device,
        precision="amp_bf16" if gpu else "fp32",
        distill=False,
        accum_freq=1,
        skip_scheduler=True,
        grad_clip_norm=None,
        horovod=False,
        rank=0,
        local_rank=0,
        world_size=1,
        batch_size=flags.batch_size,
        log_every_n_steps=100,
        wandb=False,
        log_local=False,
    )
    train_one_epoch(model, data, ClipLoss(), 0, optimizer, None, None, None, arguments)
    return times


def _adamw(model, free: bool):
    """As open_clip_train/main.py makes it."""
    import torch

    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": 0.2},
    ]
    return torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.999), eps=1e-8, fused=free or None)


def _clip_model(flags: argparse.Namespace):
    """The same AlignModel behind the interface of open_clip's models."""
    import torch
    import torch.nn.functional as F

    from alignset.train.model.dual_encoder import new_align, use_stochastic_depth

    numbers = settings(flags, "adamw")

    class Clip(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.align = new_align(numbers, VOCABULARY)
            self.align.text_model.pooler = None
            use_stochastic_depth(self.align.vision_model, numbers.drop_path)
            self.logit_scale = torch.nn.Parameter(torch.ones([]) * math.log(1 / 0.07))

        def forward(self, image, text):
            images = self.align.get_image_features(image).pooler_output
            # open_clip's HFTextEncoder makes its mask of the padding too.
            texts = self.align.get_text_features(text, (text != 0).long()).pooler_output
            return {
                "image_features": F.normalize(images, dim=-1),
                "text_features": F.normalize(texts, dim=-1),
                "logit_scale": self.logit_scale.exp(),
            }

    return Clip()


class _Loader:
    """Batches that lie ready; notes how long the step behind each took."""

    def __init__(self, flags: argparse.Namespace, free: bool, times: list[float]):
        import torch

        scaled = torch.from_numpy(pixels(flags)).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        layout = torch.channels_last if free else torch.contiguous_format
        texts = captions(flags.batch_size)
        ids = tokenizer(texts)(
            texts, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )["input_ids"]
        self.batch = scaled.contiguous(memory_format=layout), ids
        if flags.device == "cuda":  # as its loader does
            self.batch = tuple(tensor.pin_memory() for tensor in self.batch)
        self.num_batches = WARM_UP + flags.steps
        self.num_samples = self.num_batches * flags.batch_size
        self.times, self.clock = times, flags.clock

    def __iter__(self):
        for _ in range(self.num_batches):
            start = self.clock()
            yield self.batch
            self.times.append(self.clock() - start)
