"""What a run has before its first step: where its samples lie, its tokenizer, its first weights."""

from pathlib import Path

import torch
from transformers import AlignModel, PreTrainedTokenizerFast

from train.data.find_shards import ShardSet
from train.data.shard_index import ShardIndex, load_indexes, read_index, save_indexes
from train.model.dual_encoder import new_align
from train.model.pretrained import load_pretrained
from train.model.tokenizer import learn_tokenizer, load_tokenizer, save_tokenizer
from train.model.tower_weights import load_own_tokenizer, load_towers
from train.runs import processes
from train.settings import Settings


def read_shards(settings: Settings, sets: list[ShardSet], run: Path) -> list[ShardIndex]:
    """The index of each set; the run's first process reads the shards, once, when it isn't there.

    The same reading gives the texts of which the tokenizer is learned, where it isn't brought.
    """
    index, tokenizer = run / "shards.npz", run / "tokenizer"
    if processes.rank() == 0 and not index.exists():
        brought = settings.tokenizer or settings.text_weights
        learned = not settings.start_from and not brought and not tokenizer.exists()
        texts = settings.tokenizer_texts if learned else 0
        total = sum(len(shard_set.shards) for shard_set in sets)
        indexes, drawn = [], []
        for shard_set in sets:
            share = -(-texts * len(shard_set.shards) // total)
            of_set, some = read_index(
                shard_set.shards, texts=share, caption_field=settings.caption_field
            )
            indexes.append(of_set)
            drawn += some
        if learned:
            sizes = {
                "vocabulary_size": settings.vocabulary_size,
                "max_tokens": settings.max_tokens,
            }
            save_tokenizer(learn_tokenizer(lambda: drawn, **sizes), tokenizer)
        if brought and not tokenizer.exists():
            save_tokenizer(load_own_tokenizer(brought, settings.max_tokens), tokenizer)
        save_indexes(indexes, index)
    processes.wait_for_all()
    return load_indexes(index, [shard_set.shards for shard_set in sets])


def start_model(settings: Settings, run: Path) -> tuple[AlignModel, PreTrainedTokenizerFast]:
    """The model before the first step, the same on every process, and the run's tokenizer."""
    if settings.start_from:
        align, processor = load_pretrained(settings.start_from)
        return align, processor.tokenizer
    tokenizer = load_tokenizer(run / "tokenizer")
    torch.manual_seed(settings.seed)
    align = new_align(settings, len(tokenizer))
    load_towers(align, settings)
    return align, tokenizer
