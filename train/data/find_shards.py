"""Which shards are read: folders, files, globs, numbered URLs, commands; and sets with weights."""

import glob
import math
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Its stubs lack the error.
from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

from alignset.extras import missing_extra
from alignset.train.data.shard_streams import PIPE
from alignset.train.errors import SettingsError
from alignset.transforms.storage.stores import STORES, list_remote, scheme

_WEIGHT = re.compile(r"(.+)::([^:/,]*)")
_EXAMPLE = "name a folder with .tar files, such as OUT/shards"
_EXTRAS = {"s3": "aws", "gs": "gcp"}  # that bring what reads them
_NUMBERED = "name its shards by numbers, as {00000..00099}.tar"


@dataclass(frozen=True)
class ShardSet:
    shards: tuple[str, ...]
    weight: float = 1.0  # its share of the samples is weight / sum of all weights


def find_sets(where: str) -> list[ShardSet]:
    """The sets that `where` names: "A,B" is one of all its shards, "A::2,B::1" are two.

    Raises:
      SettingsError: a part holds no shard, a shard is named twice, a weight is none.
    """
    parts = _parts(where)
    matches = [match for part in parts if (match := _WEIGHT.fullmatch(part))]
    if not matches:
        sets = [ShardSet(tuple(find_shards(where)))]
    elif len(matches) < len(parts):
        raise SettingsError(
            f"give every part of --shards a weight (A::2,B::1) or none; got {where!r}"
        )
    else:
        sets = [ShardSet(tuple(_find(match[1])), _weight(match[2], match[0])) for match in matches]
    shard, times = Counter(shard for each in sets for shard in each.shards).most_common(1)[0]
    if times > 1:
        raise SettingsError(
            f"{shard} is named twice by --shards: to see a dataset more often, weigh it (A::2,B::1)"
        )
    return sets


def _weight(text: str, part: str) -> float:
    with suppress(ValueError):
        if 0 < (weight := float(text)) < math.inf:
            return weight
    raise SettingsError(f"a weight of --shards must be a number larger than 0; got {part!r}")


def find_shards(where: str) -> list[str]:
    """The shards that `where` names, as paths, URLs and commands.

    Comma-separated: local folders of shards or datasets, files and globs; URLs, in stores also as
    folders and globs; each with {00000..00099} for numbers. A part that begins with pipe: is a
    shell command that prints a shard, and extends to the end.

    Raises:
      SettingsError: one of them holds no shard.
    """
    shards = [shard for part in _parts(where) for shard in _find(part)]
    if not shards:
        raise SettingsError(f"no shards: {_EXAMPLE}")
    return shards


def _parts(where: str) -> list[str]:
    """At commas outside of braces, up to the first command.

    >>> _parts("a/{0,1}.tar, b,pipe:cat c, d")
    ['a/{0,1}.tar', 'b', 'pipe:cat c, d']
    """
    command = re.search(r"(?:^|,)\s*(?=pipe:)", where)
    files = where[: command.start()] if command else where
    parts = [part.strip() for part in re.split(r",(?![^{]*\})", files)]
    return [part for part in parts if part] + ([where[command.end() :]] if command else [])


def _find(part: str) -> list[str]:
    try:
        names = [part] if Path(part).exists() else list(braceexpand(part))
    except UnbalancedBracesError as error:
        raise SettingsError(f"no shards at {part!r}: its braces do not match") from error
    shards: list[str] = []
    for name in names:
        if name.startswith(PIPE):
            matches = [name]
        elif "://" in name:
            matches = _find_remote(name)
        elif Path(name).is_dir():  # a Path's names are the same for A, A/ and ./A
            folder = Path(name)
            found = sorted(folder.glob("*.tar")) or sorted(folder.glob("shards/*.tar"))
            matches = list(map(str, found))
        else:
            matches = [name] if Path(name).exists() else sorted(glob.glob(name))
        if not matches:
            raise SettingsError(f"no shards at {name!r}: {_EXAMPLE}")
        shards += matches
    return shards


def _find_remote(url: str) -> list[str]:
    kind = scheme(url)
    if kind in ("http", "https"):
        _, _, path = url.partition("?")[0].partition("://")
        if "*" in path or path.endswith("/") or "/" not in path:
            raise SettingsError(
                f"{url} can't be listed, as a web server lists nothing: {_NUMBERED}"
            )
        return [url]  # its first opening says whether it is there
    if kind not in STORES:
        raise SettingsError(
            f"{url}: {kind}:// cannot be read here; name a path of this machine, s3://, gs://, "
            "hf://, https:// or pipe:COMMAND"
        )
    if kind in _EXTRAS and (missing := missing_extra(_EXTRAS[kind], f"{kind}://")):
        raise SettingsError(missing)
    is_glob = glob.has_magic(url)
    if url.endswith(".tar") and not is_glob:
        return [url]
    try:
        files = list_remote(url if is_glob else url.rstrip("/") + "/*.tar")
    except FileNotFoundError as error:
        raise SettingsError(str(error)) from error
    except Exception as error:  # drivers raise many kinds
        raise SettingsError(
            f"{url} cannot be listed ({error!s:.200}): check the credentials, or, where they allow "
            f"no listing, {_NUMBERED}"
        ) from error
    return sorted(file.path for file in files)
