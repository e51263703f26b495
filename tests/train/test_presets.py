"""The presets: the paper's numbers where they are named after it; all of them can be started."""

import dataclasses

import pytest

from alignset.train.errors import SettingsError
from alignset.train.presets import PAPER, PRESETS
from alignset.train.settings import Settings


def test_the_papers_recipe_to_the_letter():
    numbers = dataclasses.asdict(PAPER.resolve("cpu"))
    expected = {
        "optimizer": "lamb",
        "weight_decay": 1e-5,
        "learning_rate": 1e-3,
        "warmup_steps": 10_000,
        "steps": 1_200_000,
        "batch_size": 16_384,
        "label_smoothing": 0.1,
        "temperature": 1.0,
        "resize_px": 346,
        "crop_px": 289,
        "horizontal_flip": True,
        "max_tokens": 64,
        "vocabulary_size": 100_000,
        "batch_norm_group_size": 16,
        "batch_norm_momentum": 0.01,
    }
    assert {name: numbers[name] for name in expected} == expected
    assert PRESETS["l2-large"].steps == 1_200_000
    ablation = dataclasses.replace(PAPER, text_tower="mini", steps=1_000_000)
    assert PRESETS["b7-mini"] == ablation
    assert len({*PRESETS} & {f"{i}-{t}" for i in ("b1", "l2") for t in ("medium", "large")}) == 4
    fine_tuned = {"learning_rate": 1e-5, "batch_size": 2_048, "warmup_steps": 0, "steps": 3_000}
    expected = dataclasses.replace(PAPER, **fine_tuned, caption_lines=True)
    assert PRESETS["flickr30k"] == expected
    assert PRESETS["mscoco"] == dataclasses.replace(expected, steps=6_000)


def test_each_preset_can_be_started_alone_and_by_eight():
    for settings in PRESETS.values():
        for processes in (1, 8):
            number, pairs = settings.micro_batches(processes)
            assert number * pairs * processes == settings.batch_size


def test_micro_batches_by_hand():
    settings = Settings(batch_size=256, micro_batch_size=64)
    assert [settings.micro_batches(n) for n in (1, 2, 8)] == [(4, 64), (2, 64), (1, 32)]
    small = Settings(batch_size=8, micro_batch_size=64)  # a group of BatchNorm is all 8 then
    assert small.micro_batches(1) == (1, 8)
    for size, at_once, processes, text in (
        (100, 64, 3, "batch_size must be a multiple of the 3 processes; got 100"),
        (100, 48, 1, "must divide the 100 pairs of one"),
        (96, 24, 2, "must divide the 24 pairs that go through"),
    ):
        with pytest.raises(SettingsError, match=text):
            Settings(batch_size=size, micro_batch_size=at_once).micro_batches(processes)


def test_numbers_out_of_range_are_refused():
    for name, value, text in (
        ("freeze", "both", "freeze must be , image or text; got 'both'"),
        ("max_tokens", 513, "max_tokens must be 3 to 512"),
        ("beta1", 1.0, "beta1 must be at least 0 and below 1; got 1.0"),
        ("trackers", "wandb", "there is no tracker 'wandb' here"),
        ("image_tower", "b9", "image_tower must be b0, b1"),
        ("precision", "fp8", "precision must be auto, bf16, fp32 or highest; got 'fp8'"),
        ("min_temperature", 2.0, "min_temperature must be at most temperature; got 2.0 and 1.0"),
        ("text_buckets", -1, "text_buckets must be at least 0 and finite; got -1"),
        ("learning_rate", float("nan"), "learning_rate must be larger than 0"),
        ("steps", 0, "steps must be at least 1; got 0"),
        ("crop_px", 400, "crop_px must be at most resize_px"),
        *(
            ("captions", wrong, "captions must be places of texts, each once, with weights above 0")
            for wrong in (
                *("txt", "txt:0", "txt:nan", "txt:-1", "txt:1,txt:2", ":1", "txt:1,", "a:b"),
                *("txt:inf", "jpg:1", "TXT:1", "json:1", "json.:1"),
                "txt:1e308,json.a:1e308",  # their sum is infinite
            )
        ),
    ):
        with pytest.raises(SettingsError, match=text):
            Settings(**{name: value})
