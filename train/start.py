"""A run before its first step: what refuses it, the index of its samples, its tokenizer, its
initialisation."""

import json
import os
import shutil
import sys
from itertools import islice
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AlignModel, AlignTextModel, AlignVisionModel, PreTrainedTokenizerFast

from alignset.train.data.find_shards import ShardSet
from alignset.train.data.samples import LONGEST_JSON, json_object, shard_files, shard_samples
from alignset.train.data.shard_index import (
    ShardIndex,
    load_indexes,
    read_indexes,
    save_indexes,
    scan_shards,
)
from alignset.train.data.shard_streams import ShardStream
from alignset.train.data.whole_files import write_whole
from alignset.train.errors import SettingsError, counted
from alignset.train.evaluate.validation import HeldOut, read_held_out
from alignset.train.model.dual_encoder import new_align, text_config, vision_config
from alignset.train.model.pretrained import (
    check_pretrained,
    check_tower_weights,
    load_own_tokenizer,
    load_pretrained,
    load_towers,
)
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
from alignset.train.model.tower_layers import tower_blocks
from alignset.train.runs import processes
from alignset.train.runs.processes import find_device, memory_of
from alignset.train.runs.run_folder import open_run
from alignset.train.settings import Settings
from alignset.train.towers import IMAGE_TOWERS, TEXT_TOWERS

_PARTS = "shards.parts"  # below the run's folder, until all shards are read
_SAID_EVERY_S = 30.0
_LOOKED_AT = 1_000  # samples of a dataset, for places of texts that none has
_OWN = 3 << 28  # bytes of CUDA, or of Python with its packages


def open_training(settings: Settings, sets: list[ShardSet], run: Path) -> None:
    """Makes the run's folder, or checks that it is of these settings, as `open_run` does."""
    if settings.start_from:  # before the folder is made: the right name could not go on in it
        check_pretrained(settings.start_from)
    open_run(
        run, settings, sets, (settings.start_from, settings.image_weights, settings.text_weights)
    )


def begin(settings: Settings, sets: list[ShardSet], run: Path) -> HeldOut | None:
    """Work of the first process alone: it refuses invalid runs, reads the validation pairs, and
    opens the run's folder."""
    if settings.check_memory and not settings.start_from:  # a model's size is in no setting
        device = find_device(settings.device)
        available = memory_of(device)
        if device.type == "cpu":
            available //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        check_memory(settings, int(os.environ.get("WORLD_SIZE", "1")), available)
    held_out = read_held_out(settings) if settings.validate else None
    brought = settings.image_weights or settings.text_weights or settings.tokenizer
    if brought and not settings.start_from:
        check_tower_weights(settings)
    open_training(settings, sets, run)
    return held_out


def step_bytes(settings: Settings, processes: int) -> tuple[int, int]:
    """About what a step takes in each of so many processes: once, and for each pair that goes
    through the towers at once. A trained weight has a gradient, two averages and a move."""
    words = text_config(TEXT_TOWERS[settings.text_tower], settings, settings.vocabulary_size)
    with torch.device("meta"):  # shapes alone, without memory
        image = AlignVisionModel(vision_config(IMAGE_TOWERS[settings.image_tower], settings))
        numbers = {"image": image.num_parameters(), "text": AlignTextModel(words).num_parameters()}
    side, of_blocks, largest = -(-settings.crop_px // 2), [], 0
    for block in tower_blocks(image):  # what its convolutions, BatchNorms and swishes keep
        convolution, entry = block.depthwise_conv.depthwise_conv, side
        side, inner = -(-entry // convolution.stride[0]), convolution.in_channels
        of_blocks.append(inner * (3 * block.expand * entry**2 + 4 * side**2))
        largest = max(largest, inner * entry**2)  # of which BatchNorm has float32 copies
    of_layer = settings.max_tokens * (6 * words.hidden_size + 2 * words.intermediate_size)
    kept = max if settings.checkpoint_activations else sum
    values = {"image": kept(of_blocks), "text": kept([of_layer] * words.num_hidden_layers)}
    values.pop(settings.freeze, None)
    once = _OWN + 4 * numbers.pop(settings.freeze, 0) + 20 * sum(numbers.values())
    once += 24 * min(512, settings.batch_size // processes) * settings.batch_size  # scores
    return once, sum(values.values()) * (2 if settings.precision == "bf16" else 4) + 12 * largest


def check_memory(settings: Settings, processes: int, available: int) -> None:
    """Raises SettingsError, with what might fit, where so many bytes of a process will not do."""
    (once, of_pair), (_, pairs) = step_bytes(settings, processes), settings.micro_batches(processes)
    if once + pairs * of_pair <= available:
        return
    least = min(settings.batch_norm_group_size, pairs)  # BatchNorm's groups stay what they are
    less = [n for n in range(least, pairs, least) if pairs % n == 0]
    fits = [f"--micro_batch_size={n}" for n in less if once + n * of_pair <= available]
    smaller = "--checkpoint_activations, or a smaller --image_tower and --text_tower"
    raise SettingsError(
        f"a step takes about {(once + pairs * of_pair) / 1e9:.1f} GB, and a process has "
        f"{available / 1e9:.1f} GB: pass {[smaller, *fits][-1]}; or --check_memory=false, to try"
    )


def read_shards(settings: Settings, sets: list[ShardSet], run: Path) -> list[ShardIndex]:
    """The index of each dataset. Where it isn't there, each process reads its share of the shards,
    once, and the first puts together what all have read.

    The same reading gives the texts from which the tokenizer is learned, unless one is passed, and
    a sample in which unknown tokens are counted.
    """
    index, datasets = run / "shards.npz", [shard_set.shards for shard_set in sets]
    count, rank = processes.count(), processes.rank()
    if count > 1 and processes.any_of_all(load_indexes(index, datasets) is None):
        texts = _texts_to_draw(settings, run)
        share = range(rank, sum(map(len, datasets)), count)
        parts = run / _PARTS / str(texts)
        for _ in scan_shards(datasets, texts, settings.caption_places(), parts, share):
            pass  # the first process meets what cannot be read again, and names it
        processes.wait_for_all()
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


def _learns(settings: Settings, run: Path) -> bool:
    """Whether the run learns its tokenizer, and has not done so."""
    brought = settings.start_from or settings.tokenizer or settings.text_weights
    return not brought and not (run / "tokenizer").exists()


def _texts_to_draw(settings: Settings, run: Path) -> int:
    return settings.tokenizer_texts if _learns(settings, run) else SAMPLED


def _read_shards_once(
    settings: Settings, datasets: list[tuple[str, ...]], run: Path
) -> list[ShardIndex]:
    """The indexes; the run's tokenizer, and how much it does not know, are written. Shards that an
    interrupted run had read are not read again."""
    tokenizer = run / "tokenizer"
    brought = settings.tokenizer or settings.text_weights
    learns, texts = _learns(settings, run), _texts_to_draw(settings, run)
    total = sum(map(len, datasets))
    print(f"reading {counted(total, 'shard')} once, for where their samples begin", file=sys.stderr)
    often = {"delay": _SAID_EVERY_S, "mininterval": _SAID_EVERY_S}
    with tqdm(total=total, unit=" shards", file=sys.stderr, **often) as bar:
        indexes, drawn_texts = read_indexes(
            datasets,
            texts=texts,
            places=settings.caption_places(),
            folder=run / _PARTS / str(texts),
            advance=bar.update,
        )
    if not drawn_texts.counts:
        raise SettingsError(_no_text_error(settings, datasets[0][0]))
    _warn_of_captions(settings, [shards[0] for shards in datasets])
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


def _warn_of_captions(settings: Settings, shards: list[str]) -> None:
    """Names places of --captions that no sample of the first ones has: they may be misspelt."""
    places = settings.caption_places()
    found, every = set[str](), len(places)
    for shard in shards if every > 1 else ():
        for sample in islice(shard_samples(shard, images=False, places=places), _LOOKED_AT):
            found |= {of for of, text in zip(places, sample.texts, strict=True) if text}
            if len(found) == every:
                return
    missing = ", ".join(place for place in places if place not in found)
    if found:
        print(f"warning: --captions: the first samples have no {missing}", file=sys.stderr)


def _no_text_error(settings: Settings, shard: str) -> str:
    """The error where no sample has a text and an image."""
    with ShardStream(shard) as stream:
        files = (file for file in shard_files(stream) if file.name.endswith(".json"))
        first = next(files, None)
        fields = [*json_object(stream.read(min(first.size, LONGEST_JSON)))] if first else []
    hint = f"; KEY.json has {', '.join(fields)}"[:300] if fields else ""
    if flag := settings.caption_flag:
        return f"{flag}: no sample has an image and that field{hint}: name another"
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
