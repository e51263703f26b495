"""Folders that are written to: of this machine."""

from alignset.train.__main__ import main as train
from alignset.train.classify.__main__ import main as classify
from alignset.train.evaluate.__main__ import main as evaluate
from alignset.train.search.__main__ import main as search

URL = "s3://bucket/a"


def test_a_url_is_no_folder_to_write_to(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command, flags in (
        (train, ["--shards=x", f"--run={URL}"]),
        (classify, [f"--run={URL}"]),
        (evaluate, ["retrieval", "--data=x", "--model=x", f"--cache={URL}"]),
        (search, ["index", "--data=x", "--model=x", f"--index={URL}"]),
    ):
        assert command(flags) == 2
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1
        assert f"{URL} is a URL, and a folder of this machine is written to: name one" in printed
    assert not [*tmp_path.iterdir()]
