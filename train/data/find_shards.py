"""Which shards are read: folders, files, globs, numbered URLs, commands; and sets with weights."""

import glob
import math
import re
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
    shards = [shard for shard_set in sets for shard in shard_set.shards]
    if len(shards) > len(set(shards)):
        twice = next(shard for shard in shards if shards.count(shard) > 1)
        raise SettingsError(
            f"{twice} is named twice by --shards: to see a dataset more often, weigh it (A::2,B::1)"
        )
    return sets


def find_shards(where: str) -> list[str]:
    """The shards that `where` names, as paths, URLs and commands.

    Comma-separated: local folders, files and globs; URLs, in stores also as folders and globs; each
    with {00000..00099} for numbers. A part that begins with pipe: is a shell command that prints a
    shard, and extends to the end.

    Raises:
      SettingsError: one of them holds no shard.
    """
    shards = [shard for part in _parts(where) for shard in _find(part)]
    if not shards:
        raise SettingsError(f"no shards: {_EXAMPLE}")
    return shards


def _parts(where: str) -> list[str]:
    """At commas outside of braces, up to the first command."""
    command = re.search(r"(?:^|,)\s*(?=pipe:)", where)
    files = where[: command.start()] if command else where
    parts = [part.strip() for part in re.split(r",(?![^{]*\})", files)]
    return [part for part in parts if part] + ([where[command.end() :]] if command else [])


def _find(part: str) -> list[str]:
    if Path(part).exists():  # whatever its name is made of
        names = [part]
    else:
        try:
            names = list(braceexpand(part))
        except UnbalancedBracesError as error:
            raise SettingsError(f"no shards at {part!r}: its braces do not match") from error
    shards: list[str] = []
    for name in names:
        if name.startswith(PIPE):
            matches = [name]
        else:
            matches = _find_remote(name) if "://" in name else _find_local(name)
        if not matches:
            raise SettingsError(f"no shards at {name!r}: {_EXAMPLE}")
        shards += matches
    return shards


def _find_local(name: str) -> list[str]:
    path = Path(name)
    if path.is_dir():
        return sorted(str(tar) for tar in path.glob("*.tar"))
    return [name] if path.exists() else sorted(glob.glob(name))


def _find_remote(url: str) -> list[str]:
    # Whether a file is there, its first opening tells.
    kind = scheme(url)
    if kind in ("http", "https"):
        _, _, path = url.partition("?")[0].partition("://")
        if "*" in path or path.endswith("/") or "/" not in path:
            raise SettingsError(
                f"{url} can't be listed, as a web server lists nothing: {_NUMBERED}"
            )
        return [url]
    if kind not in STORES:
        raise SettingsError(
            f"{url}: {kind}:// cannot be read here; name a path of this machine, s3://, gs://, "
            "hf://, https:// or pipe:COMMAND"
        )
    if kind in _EXTRAS and (missing := missing_extra(_EXTRAS[kind], f"{kind}://")):
        raise SettingsError(missing)
    if url.endswith(".tar") and not glob.has_magic(url):
        return [url]
    pattern = url if glob.has_magic(url) else url.rstrip("/") + "/*.tar"
    try:
        return sorted(file.path for file in list_remote(pattern))
    except FileNotFoundError as error:
        raise SettingsError(str(error)) from error
    except Exception as error:  # drivers raise many kinds
        raise SettingsError(
            f"{url} cannot be listed ({error!s:.200}): check the credentials, or, where they allow "
            f"no listing, {_NUMBERED}"
        ) from error


def _weight(text: str, part: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise SettingsError(f"a weight of --shards must be a number larger than 0; got {part!r}")
    return weight
