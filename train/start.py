"""State of a run before its first step: places of its samples, its tokenizer, its
initialisation."""

import json
import shutil
import sys
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AlignModel, PreTrainedTokenizerFast

from alignset.train.data.find_shards import ShardSet
from alignset.train.data.samples import LONGEST_JSON, json_object, shard_files
from alignset.train.data.shard_index import ShardIndex, load_indexes, read_indexes, save_indexes
from alignset.train.data.shard_streams import ShardStream
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, counted
from alignset.train.model.dual_encoder import new_align
from alignset.train.model.pretrained import load_pretrained
from alignset.train.model.tokenizer import (
    SAMPLED,
    UNKNOWN_TOKENS,
    english_alone,
    learn_tokenizer,
    load_tokenizer,
    pieces,
    read_unknown,
    save_tokenizer,
    unknown_tokens,
)
from alignset.train.model.tower_weights import load_own_tokenizer, load_towers
from alignset.train.runs import processes
from alignset.train.settings import Settings

_PARTS = "shards.parts"  # below the run's folder, until all shards are read
_SAID_EVERY_S = 30.0


def read_shards(settings: Settings, sets: list[ShardSet], run: Path) -> list[ShardIndex]:
    """The index of each dataset; the run's first process reads the shards, once, when it isn't
    there.

    The same reading gives the texts from which the tokenizer is learned, unless one is passed, and
    a sample in which unknown tokens are counted.
    """
    index, datasets = run / "shards.npz", [shard_set.shards for shard_set in sets]
    if processes.rank() == 0 and load_indexes(index, datasets) is None:
        save_indexes(_read_shards_once(settings, datasets, run), index)
    if processes.rank() == 0:
        shutil.rmtree(run / _PARTS, ignore_errors=True)
        if (unknown := read_unknown(run)) and (note := unknown.summary()):
            print(
                f"{note}: the model can't tell them apart; name another --tokenizer, or learn one "
                "of these texts (a larger --vocabulary_size)",
                file=sys.stderr,
            )
    processes.wait_for_all()
    indexes = load_indexes(index, datasets)
    assert indexes is not None  # the first process has just read or written it
    return indexes


def _read_shards_once(
    settings: Settings, datasets: list[tuple[str, ...]], run: Path
) -> list[ShardIndex]:
    """The indexes; the run's tokenizer, and how much it does not know, are written. Shards that an
    interrupted run had read are not read again."""
    tokenizer = run / "tokenizer"
    brought = settings.tokenizer or settings.text_weights
    learns = not settings.start_from and not brought and not tokenizer.exists()
    texts = settings.tokenizer_texts if learns else SAMPLED
    total = sum(map(len, datasets))
    print(f"reading {counted(total, 'shard')} once, for where their samples begin", file=sys.stderr)
    often = {"delay": _SAID_EVERY_S, "mininterval": _SAID_EVERY_S}
    with tqdm(total=total, unit=" shards", file=sys.stderr, **often) as bar:
        indexes, drawn_texts = read_indexes(
            datasets,
            texts=texts,
            caption_field=settings.caption_field,
            folder=run / _PARTS / str(texts),
            advance=bar.update,
        )
    if not drawn_texts.counts:
        raise SettingsError(_without_texts(settings, datasets[0][0]))
    if learns:
        learned_tokenizer = learn_tokenizer(
            drawn_texts.texts,
            vocabulary_size=settings.vocabulary_size,
            max_tokens=settings.max_tokens,
            counts=drawn_texts.counts,
            strip_accents=english_alone(drawn_texts.texts),
        )
        save_tokenizer(learned_tokenizer, tokenizer)
    elif brought and not tokenizer.exists():
        save_tokenizer(load_own_tokenizer(settings), tokenizer)
    if settings.start_from:
        used_tokenizer = load_pretrained(settings.start_from)[1].tokenizer
    else:
        used_tokenizer = load_tokenizer(tokenizer)
    unknown = unknown_tokens(used_tokenizer, *drawn_texts, settings.max_tokens)
    write_whole(run / UNKNOWN_TOKENS, json.dumps(unknown._asdict(), indent=2) + "\n")
    return indexes


def _without_texts(settings: Settings, shard: str) -> str:
    """The error where no sample has a text and an image."""
    with ShardStream(shard) as stream:
        files = (file for file in shard_files(stream) if file.name.endswith(".json"))
        first = next(files, None)
        fields = [*json_object(stream.read(min(first.size, LONGEST_JSON)))] if first else []
    hint = f"; KEY.json has {', '.join(fields)}"[:300] if fields else ""
    if field := settings.caption_field:
        return f"--caption_field={field}: no sample has an image and that field{hint}: name another"
    return (
        f"no sample has an image and a text in KEY.txt{hint}: name other --shards, or the field "
        "that has the captions with --caption_field"
    )


def start_model(settings: Settings, run: Path) -> tuple[AlignModel, PreTrainedTokenizerFast]:
    """The model before the first step, the same on every process, and the run's tokenizer."""
    if settings.start_from:
        align, processor = load_pretrained(settings.start_from)
        return align, processor.tokenizer
    tokenizer = load_tokenizer(run / "tokenizer")
    torch.manual_seed(settings.seed)
    align = new_align(settings, pieces(tokenizer), int(tokenizer.pad_token_id))
    load_towers(align, settings)
    return align, tokenizer
