"""`alignset verify` finds what was done to a file of a dataset, names it, and writes nothing."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.commands import publish, verify
from alignset.transforms.storage.files import copy_file, match
from tests.support.command import digests
from tests.support.golden_run import Golden

SIDECAR, TAR, STATS = (f"shards/00000{end}" for end in (".parquet", ".tar", "_stats.json"))


@pytest.fixture
def out(plain: Golden, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain.output, tmp_path / "out"))


def edit_rows(edit: Callable[[pa.Table], pa.Table], name: str = SIDECAR) -> Callable[[Path], None]:
    return lambda out: pq.write_table(edit(pq.read_table(out / name)), out / name)


def edit_json(name: str, edit: Callable[[dict], object]) -> Callable[[Path], None]:
    def write(out: Path) -> None:
        document = json.loads((out / name).read_text())
        edit(document)
        (out / name).write_text(json.dumps(document))

    return write


def edit_bytes(name: str, edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda out: (out / name).write_bytes(edit((out / name).read_bytes())) and None


def own_tar(edit: Callable[[str, bytes], tuple[str, bytes]]) -> Callable[[Path], None]:
    """Writes the tar anew, with the SHA-256 that stats and manifest then have."""

    def write(out: Path) -> None:
        sink = io.BytesIO()
        with tarfile.open(out / TAR) as old, tarfile.open(fileobj=sink, mode="w") as new:
            for member in old:
                name, body = edit(member.name, old.extractfile(member).read())
                info = tarfile.TarInfo(name)
                info.size = len(body)
                new.addfile(info, io.BytesIO(body))
        (out / TAR).write_bytes(sink.getvalue())
        digest = hashlib.sha256(sink.getvalue()).hexdigest()
        edit_json(STATS, lambda of: of.update(sha256=digest))(out)
        edit_json("manifest.json", lambda of: of["shards"]["00000"].update(sha256=digest))(out)

    return write


def upper(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("caption")
    return table.set_column(place, "caption", pc.utf8_upper(table["caption"]))


def twice(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table.slice(0, 1)])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (edit_bytes(TAR, lambda body: body[:-1] + b"x"), f"{TAR}: its SHA-256 is "),
        (edit_bytes(TAR, lambda body: body[:3000]), f"{TAR}: it is cut off at byte 3000"),
        (edit_bytes(TAR, lambda body: b"\1" * len(body)), f"{TAR}: no tar header at byte 0"),
        (lambda out: (out / TAR).unlink(), f"{TAR}: No such file"),
        (lambda out: (out / SIDECAR).unlink(), f"{SIDECAR}: "),
        (lambda out: (out / STATS).unlink(), f"{STATS}: No such file"),
        (edit_bytes(STATS, lambda body: b"[]"), f"{STATS}: "),
        (edit_json(STATS, lambda of: of.update(successes=1)), f"{STATS}: its counts or SHA-256"),
        (edit_bytes(SIDECAR, lambda body: body[:-4] + b"XXXX"), f"{SIDECAR}: "),
        (edit_bytes("images/00000.parquet", lambda body: body[:40]), "images/00000.parquet: "),
        (edit_bytes("evidence/00000.parquet", lambda body: b"x"), "evidence/00000.parquet: "),
        (edit_bytes("README.md", lambda body: body[:400]), "README.md: it has the first 400 of "),
        (lambda out: (out / "croissant.json").unlink(), "croissant.json: it has the first 0 of "),
        (edit_bytes("report.html", lambda body: body[:-99]), "report.html: its end is missing"),
        (edit_bytes("vocabulary.u64", lambda body: body[:-8]), "vocabulary.u64: its SHA-256"),
        (lambda out: shutil.rmtree(out / "rejected"), "rejected: it lacks "),
        (edit_rows(upper), f"{SIDECAR}: the tar has another caption of "),
        (edit_rows(lambda table: table.slice(1)), f"{SIDECAR}: the tar has the key "),
        (edit_rows(twice), f"{SIDECAR}: it has "),
        (edit_rows(twice), f" is also in {SIDECAR}"),
        (own_tar(lambda name, body: (name, b"[]" if name[-4:] == "json" else body)), "KEY.json"),
        (own_tar(lambda name, body: (name, b"a" if name[-3:] == "txt" else body)), "caption of "),
        (own_tar(lambda name, body: (name.replace(".txt", ".cap"), body)), f"{SIDECAR}: the tar"),
        (lambda out: (out / "shards/00077.tar").write_bytes(b""), "shards/00077.tar: the manifest"),
        (edit_json("funnel.json", lambda of: of["steps"][0].update(kept=1)), "funnel.json: steps"),
        (edit_json("funnel.json", lambda of: of.update(pairs=1)), "funnel.json: pairs"),
        (edit_json("manifest.json", lambda of: of.update(pairs=1)), "manifest.json: pairs"),
        (edit_rows(twice, "rejected/text-00000.parquet"), "funnel.json: "),
    ],
)
def test_harm_is_told_by_file(
    out: Path, harm: Callable[[Path], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with (out / "README.md").open("a") as page:
        page.write("Edited by hand.\n")
    assert verify([str(out)]) == 0
    assert capsys.readouterr().err.startswith(f"{out}: each shard is as it was written; ")
    harm(out)
    before = digests(out)
    assert verify([str(out)]) == 1
    captured = capsys.readouterr()
    assert any(said in line for line in captured.err.splitlines()[:-1]), captured.err
    assert "fault" in captured.err.splitlines()[-1]
    assert captured.out == ""
    assert digests(out) == before


def test_sums_are_what_sha256sum_reads(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a published copy, which lists no dropped pair, and is published again later."""
    copy = tmp_path / "copy"
    assert publish([str(out), f"--output={copy}"]) == 0
    capsys.readouterr()
    assert verify([str(copy), "--sums"]) == 0
    captured = capsys.readouterr()
    assert "; rejected/ lacks " in captured.err
    (copy / "SHA256SUMS").write_text(captured.out)
    listed = {line.partition("  ")[2] for line in captured.out.splitlines()}
    assert listed == {path.removeprefix(f"{copy}/") for path, _ in match(str(copy))} - {
        "SHA256SUMS"
    }
    subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=copy, check=True)
    assert publish([str(out), f"--output={copy}"]) == 0
    assert not (copy / "SHA256SUMS").exists()


def test_a_store_is_verified_too(
    out: Path, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, _ in match(str(out)):
        copy_file(path, f"{folder}/set{path.removeprefix(str(out))}")
    assert verify([f"{folder}/set"]) == 0, capsys.readouterr().err
