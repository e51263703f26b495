"""Prompts: CLIP's own, a sentence, a file."""

import importlib.resources
import json
from pathlib import Path

import open_clip
import pytest

from alignset.train.errors import SettingsError
from alignset.train.evaluate.zero_shot import PLAIN, find_prompts, published_prompts

OTHER_NAMES = {
    "imagenet": "imagenet1k",
    "cifar": "cifar100",
    "aircraft": "fgvc_aircraft",
    "sst2": "renderedsst2",
}
# Of the datasets that clip_benchmark does not have, or has other prompts for: how many, and the
# last.
NOT_THEIRS = {
    "birdsnap": (1, "a photo of a {}, a type of bird."),
    "ucf101": (48, "a demonstration of the person practicing {}."),
    "kinetics": (28, "a demonstration of a person practicing {}."),
    "clevr": (1, "a photo of {} objects."),
    "hateful-memes": (1, "a {}."),
}


def test_the_published_ones_are_clips():
    of_open_clip = [prompt("{}") for prompt in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert list(find_prompts("imagenet")) == of_open_clip
    assert len(of_open_clip) == 80
    file = "datasets/en_zeroshot_classification_templates.json"
    text = importlib.resources.files("clip_benchmark").joinpath(file).read_text()
    theirs = json.loads(text)
    for name, prompts in published_prompts().items():
        assert len(set(prompts)) == len(prompts)
        if name in NOT_THEIRS:
            assert (len(prompts), prompts[-1]) == NOT_THEIRS[name]
            continue
        expected = theirs[OTHER_NAMES.get(name, name)]
        assert list(prompts) == [prompt.replace("{c}", "{}") for prompt in expected]
    assert all(prompt.count("{}") == 1 for own in published_prompts().values() for prompt in own)


def test_ones_own(tmp_path: Path):
    assert find_prompts(PLAIN) == (PLAIN,)
    (tmp_path / "a").write_text("a {}.\n\nthe {} {x}.\n")
    assert find_prompts(str(tmp_path / "a")) == ("a {}.", "the {} {x}.")
    (tmp_path / "a.json").write_text('["a {}.",\n "the \\u00e9 {}."]')
    assert find_prompts(str(tmp_path / "a.json")) == ("a {}.", "the é {}.")
    (tmp_path / "a").write_text('"[{}" it says\n[{}]\n')
    assert find_prompts(str(tmp_path / "a")) == ('"[{}" it says', "[{}]")


def test_what_is_no_prompt_is_told_in_a_line(tmp_path: Path):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "none").write_text("a {}.\na photo.\n")
    (tmp_path / "nested").write_text('[["a {}."]]')
    for where, says in (
        ("a {} and a {}", "has one {}"),
        (str(tmp_path / "none"), "got 'a photo.'"),
        (str(tmp_path / "empty"), "has 0 prompts"),
        (str(tmp_path / "nested"), "nested is JSON, and not a list of prompts"),
        ("imagenett", "one of imagenet, "),
        ("\0", "one of imagenet, "),
        ("a" * 5000, "one of imagenet, "),
    ):
        with pytest.raises(SettingsError, match=says) as error:
            find_prompts(where)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 800
