"""The sentences that a class's name is put into: CLIP's by set, or one's own."""

import json
from functools import cache
from pathlib import Path

from alignset.train.errors import SettingsError

PLAIN = "a photo of a {}."
_MOST = 10_000


@cache
def published_prompts() -> dict[str, tuple[str, ...]]:
    """Those of CLIP by set, which the paper uses too; "imagenet" has 80.

    Source: Radford et al., 2021, prompts.md and the notebook on prompts of its repository.
    """
    text = Path(__file__).with_name("prompts.json").read_text(encoding="utf-8")
    return {name: tuple(prompts) for name, prompts in json.loads(text).items()}


def find_prompts(where: str) -> tuple[str, ...]:
    """The prompts that `where` names: a set's, one sentence with {}, or a file of such lines.

    Raises:
      SettingsError: there are none, or one has no {} or several.
    """
    if where in published_prompts():
        return published_prompts()[where]
    prompts = (where,) if "{}" in where else _of_file(where)
    wrong = next((prompt for prompt in prompts if prompt.count("{}") != 1), None)
    if wrong is not None:
        raise SettingsError(f"a prompt has one {{}}, where the class's name goes; got {wrong!r}")
    return prompts


def _of_file(where: str) -> tuple[str, ...]:
    names = ", ".join(published_prompts())
    try:
        lines = Path(where).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"no prompts at {where!r:.200} ({error!s:.200}): give a sentence with {{}}, a file of "
            f"such lines, or one of {names}"
        ) from error
    prompts = tuple(line.strip() for line in lines if line.strip())
    if not 0 < len(prompts) <= _MOST:
        raise SettingsError(f"{where} has {len(prompts)} prompts: give 1 to {_MOST}, a line each")
    return prompts
