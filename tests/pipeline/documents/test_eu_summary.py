"""The EU's public summary: each field that a dataset knows is what its files say."""

import csv
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.commands import card, publish, takedown
from alignset.settings import declared_fields
from alignset.transforms.blocklists import compiled_list
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.storage.files import copy_file, match, open_to_read
from tests.support.agreement import rows
from tests.support.command import manifest
from tests.support.golden_run import Golden

BY_PROVIDER = "to be filled in by the provider"


@pytest.fixture
def out(golden: Golden, tmp_path: Path) -> Path:
    return Path(shutil.copytree(golden.output, tmp_path / "out"))


def read(out: object, name: str = "summary-eu.md") -> str:
    with open_to_read(f"{out}/{name}") as source:
        return source.read().decode()


def fields(out: object) -> dict[str, str]:
    """The fields of a summary by their names."""
    assert card([str(out), "--summary=eu"]) == 0
    return dict(re.findall(r"(?m)^\*\*(.+?):\*\* (.*)$", read(out)))


def domains(out: object) -> list[dict[str, str]]:
    return list(csv.DictReader(read(out, "summary-eu-domains.csv").splitlines()))


def test_a_run_fills_in_what_it_knows(out: Path) -> None:
    of = fields(out)
    kept, said = rows(out, "shards"), manifest(out)
    sizes = {row["key"]: row["bytes"] for row in rows(out, "images") if row["key"]}
    images, size = {row["url"] for row in kept}, sum(len(row["caption"].encode()) for row in kept)
    text = f"less than 1 billion tokens; {len(kept):,} alt-texts, {size:,} bytes"
    assert of["1.3 Text, training data size"].startswith(text)
    assert of["1.3 Image, training data size"] == f"less than 1 million images; {len(images):,}"
    assert of["1.3 Linguistic characteristics"].startswith("not measured; the rule kept `en`")
    days = said["fetched"]
    assert of["2.3 Period of data collection"] == f"`{days['first']}` to `{days['last']}` (UTC)"
    assert of["2.3 Crawler names"].startswith(f"`{said['fetch']['user_agent']}`")
    assert "pairs.parquet" in read(out)
    for name in {field.name for field in declared_fields(OptOutSettings)} - {"evidence"}:
        assert re.search(rf"\| `{name}` \| [^|]+ \| ", read(out)), name
    opted_out = (
        json.loads((out / "funnel.json").read_text()).get("opted_out", {}).get("details", {})
    )
    told = of["3.1 Pairs kept out by opt-outs, blocklists and takedowns"]
    assert all(f"`{name}` {count}" in told for name, count in opted_out.items())
    for name in ("1.1", "1.2", "2.2", "2.4", "2.5", "2.6", "3.1 Signatory"):
        assert BY_PROVIDER in next(value for key, value in of.items() if key.startswith(name))
    (host,) = {urlsplit(url).hostname for url in images}  # an address, which is its own domain
    (top,) = domains(out)
    assert (top["domain"], int(top["images"])) == (host, len(images))
    assert (int(top["bytes"]), top["share"]) == (sum(sizes.values()), "1.000000")


def test_a_grown_dataset_tells_of_those_before(out: Path) -> None:
    """Their inputs, crawlers and removals, though their rows were judged anew."""
    before = manifest(out)
    lists = [{"name": "mine", "sha256": "ab", "entries": {}}]
    removal = {"day": "2026-01-02", "lists": lists, "pairs": 3, "dropped": 0, "forgotten": False}
    days, agent = {"first": "2020-02-01", "last": "2020-02-02"}, {"user_agent": "older crawler"}
    (out / "history/00").mkdir(parents=True)
    earlier = before | {"takedowns": [removal], "fetched": days, "fetch": before["fetch"] | agent}
    (out / "history/00/manifest.json").write_text(json.dumps(earlier))
    rows_read = [{"path": "a/shards/00000.parquet", "bytes": 9, "format": "rows"}]
    (out / "manifest.json").write_text(json.dumps(before | {"input": rows_read}))
    funnel = json.loads((out / "funnel.json").read_text())
    stages = [{"folder": "history/00", "pairs": 9, "steps": [], "history": []}]
    (out / "funnel.json").write_text(json.dumps(funnel | {"history": stages}))
    of = fields(out)
    assert "pairs.parquet" in read(out)
    assert "`older crawler`" in of["2.3 Crawler names"]
    assert of["2.3 Period of data collection"].startswith("`2020-02-01`")
    assert "2026-01-02: 3 pairs, by `mine`" in of["3.2 Removed since"]
    assert "Faces" in of["3.3 Personal data"]


def with_hosts(out: Path, languages: bool = False) -> Counter[str]:
    """Gives the images of a dataset other hosts; returns how many images each domain has."""
    of_domain: Counter[str] = Counter()
    for file in sorted(out.glob("shards/*.parquet")):
        table = pq.read_table(file)
        urls = []
        for row in range(len(table)):
            number = min(row % 40, 25)
            of_domain[f"d{number}.co.uk"] += 1
            urls.append(f"https://i{row % 3}.D{number}.co.uk:8443/{file.stem}/{row}.jpg")
        place = table.schema.get_field_index("url")
        table = table.set_column(place, "url", pa.array(urls))
        if languages:
            codes = ["de" if row % 4 else "fr" for row in range(len(table))]
            table = table.append_column("language", pa.array(codes))
        pq.write_table(table, file)
    return of_domain


@pytest.mark.parametrize("suffixes", [True, False])
def test_domains_without_ledgers_go_by_images(
    out: Path, suffixes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(out / "images")
    of_domain = with_hosts(out, languages=True)
    if not suffixes:
        monkeypatch.setitem(sys.modules, "publicsuffixlist", None)
    compiled_list.public_suffixes.cache_clear()
    of = fields(out)
    told, top = of["2.3 Most relevant domains"], domains(out)
    assert re.search(
        r"`de` 7\d\.\d%, `fr` 2\d\.\d% of the texts", of["1.3 Linguistic characteristics"]
    )
    assert "number of images" in told
    assert ("hosts, for domains need" in told) != suffixes
    if suffixes:
        assert len(top) == -(-len(of_domain) // 10)
        assert [(row["domain"], int(row["images"])) for row in top] == sorted(
            of_domain.items(), key=lambda item: (-item[1], item[0])
        )[: len(top)]
    assert {row["bytes"] for row in top} == {""}


def test_what_is_filled_in_stays_and_a_takedown_renews_the_page(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fields(out)
    page = read(out).replace(f"**2.4 User data:** {BY_PROVIDER}", "**2.4 User data:** none")
    (out / "summary-eu.md").write_text(page)
    assert fields(out) == before | {"2.4 User data": "none"}
    (tmp_path / "list.txt").write_text(f"url:{rows(out, 'shards')[0]['url']}\n")
    assert takedown([str(out), f"--blocklist={tmp_path}/list.txt"]) == 0
    after = dict(re.findall(r"(?m)^\*\*(.+?):\*\* (.*)$", read(out)))
    assert "taken_down" in after["3.1 Pairs kept out by opt-outs, blocklists and takedowns"]
    assert after["2.4 User data"] == "none"
    assert after["1.3 Image, training data size"] != before["1.3 Image, training data size"]
    capsys.readouterr()
    assert publish([str(out), "--dry_run"]) == 0
    listed = {line.split("\t")[0] for line in capsys.readouterr().out.splitlines()}
    assert {"summary-eu.md", "summary-eu-domains.csv"} <= listed


def test_a_store_s_dataset_has_the_same_page(out: Path, folder: str) -> None:
    for path, _ in match(str(out)):
        copy_file(path, f"{folder}/set{path.removeprefix(str(out))}")
    assert fields(f"{folder}/set") == fields(out)
    assert domains(f"{folder}/set") == domains(out)


def test_other_folders_and_other_summaries_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert card([str(tmp_path), "--summary=eu"]) == 2
    assert "holds no finished dataset: pass the --output of a run" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        card([str(tmp_path)])
    assert "--summary" in capsys.readouterr().err
