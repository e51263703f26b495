"""All tasks over a YAML, resumed, with one table beside what was published."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
import yaml

from alignset.train.evaluate.page import numbers
from alignset.train.evaluate.published import PUBLISHED
from alignset.train.evaluate.task_flags import TASKS
from alignset.train.evaluate.tasks.suite import METRICS, Entry, markdown
from tests.support.evaluations import colour_folders, evaluated, refused, run
from tests.support.train_shards import COLOURS


@pytest.fixture
def suite(tmp_path: Path) -> dict:
    folders = colour_folders(tmp_path / "colours", each=6)
    test = colour_folders(tmp_path / "test", each=1, first=6)
    rows = "".join(f"{name}/0.png,a {name} thing\n" for name in COLOURS)
    (tmp_path / "captions.csv").write_text("image,caption\n" + rows)
    languages = "".join(
        f"colours/{name}/0.png,{word} {name} thing,{language}\n"
        for name in COLOURS
        for word, language in (("a", "en"), ("ein", "de"))
    )
    (tmp_path / "languages.csv").write_text("image,caption,language\n" + languages)
    (tmp_path / "words.csv").write_text("word1,word2,score\nred,a red,9\nred,blue,1\nx,y,2\n")
    return {
        "sets": [
            {
                "name": "flickr30k",
                "task": "retrieval",
                "data": str(tmp_path / "captions.csv"),
                "images": str(folders),
                "caption_lines": False,
            },
            {"name": "mine", "task": "zero_shot", "data": str(folders), "published": "imagenet"},
            {"name": "knn", "task": "knn", "data": str(folders), "test": str(test), "k": 3},
            {"name": "probe", "task": "probe", "data": str(folders), "test": str(test)},
            {"name": "speech", "task": "retrieval", "data": str(tmp_path / "languages.csv")},
            {"name": "words", "task": "words", "data": str(tmp_path / "words.csv")},
        ]
    }


def flags_of(tmp_path: Path, suite: object) -> list[str]:
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    return [f"--data={tmp_path / 'suite.yaml'}", f"--out={tmp_path / 'out'}"]


def test_it_runs_all_and_goes_on_where_it_was_left(suite: dict, tmp_path: Path, capsys):
    flags = flags_of(tmp_path, suite)
    result = evaluated(capsys, "suite", *flags, cache=tmp_path / "cache")
    assert [*result["sets"]] == ["flickr30k", "mine", "knn", "probe", "speech", "words"]
    assert result["sets"]["mine"]["top1"] == 100
    table = (tmp_path / "out" / "table.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    header, row = rows[0], rows[2]
    assert dict(zip(header, row, strict=True)) == {
        "set": "flickr30k",
        "task": "retrieval",
        "metric": "image_to_text R@1",
        "n": "8",
        "this model": "100.0",
        "95 %": "100.0 to 100.0",
        "published": "ALIGN 88.6, COYO-ALIGN B7-Base 88.1",
    }
    assert [row[-1] for row in rows if row[2] == "text_to_image R@10"] == ["ALIGN 96.8"]
    assert ["mine", "zero_shot", "top1", "48", "100.0", "100.0 to 100.0", "ALIGN 76.4"] in rows
    assert [row[4] for row in rows if row[0] == "speech"] == ["100.0"] * 3  # de, en
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.json")}
    (tmp_path / "out" / "knn.json").unlink()
    suite["sets"][3]["classes"] = ""
    suite["sets"][5]["prompt"] = "the {}"
    assert evaluated(capsys, "suite", *flags_of(tmp_path, suite), cache=tmp_path / "cache")
    again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.json")}
    changed = {name for name, time in again.items() if times[name] != time}
    assert changed == {"knn.json", "words.json"}


def test_its_sets_have_pages_and_their_flags_are_in_their_results(
    suite: dict, tmp_path: Path, capsys
):
    page = tmp_path / "knn.html"
    sets = {"sets": [suite["sets"][2] | {"page": str(page)}]}
    for _ in range(2):  # the second time only the page is missing
        assert evaluated(capsys, "suite", *flags_of(tmp_path, sets), cache=tmp_path / "cache")
        assert page.read_text().count("<img ") == 8
        page.unlink()
    told = json.loads((tmp_path / "out" / "knn.json").read_text())["result"]["data"]
    assert (told["k"], told["test"]) == (3, str(tmp_path / "test"))
    sets["sets"][0]["page"] = str(tmp_path / "nowhere" / "a.html")
    assert "can't be written" in refused(capsys, "suite", *flags_of(tmp_path, sets))
    sets["sets"][0] |= {"page": "", "batch_size": 4}
    assert "batch_size is a flag of the suite" in refused(
        capsys, "suite", *flags_of(tmp_path, sets)
    )


def test_a_row_has_the_count_that_is_nearest_to_its_metric():
    result = {"n": 9, "correlation": {"sts": {"spearman": 26.316, "n": 4}}, "top1": 5, "R": {}}
    intervals = {"correlation": {"sts": {"spearman": [26.0, 68.421]}}}
    table = markdown(
        [Entry(task, task, Namespace(), "") for task in ("crisscrossed", "knn")],
        dict.fromkeys(("crisscrossed", "knn"), result | {"intervals": intervals}),
        {},
    ).splitlines()
    sts = "| crisscrossed | crisscrossed | correlation sts spearman | 4 | 26.3 | 26.0 to 68.4 | "
    assert table[2].startswith(sts)
    assert table[3].startswith("| knn | knn | top1 | 9 | 5.0 |  | ")


def test_languages_have_rows_and_multi30k_what_was_published():
    recalls = {"de": {"n": 7, "mean_recall": 50.0}, "cs": {"n": 5, "mean_recall": 40.0}}
    result = {"n": 9, "mean_recall": 45.0, "languages": recalls}
    intervals = {"languages": {"de": {"mean_recall": [48.0, 52.0]}}}
    entry = Entry("captions", "retrieval", Namespace(), "multi30k")
    table = markdown([entry], {"captions": result | {"intervals": intervals}}, {}).splitlines()
    assert table[3] == (
        "| captions | retrieval | languages de mean_recall | 7 | 50.0 | 48.0 to 52.0 | "
        "ALIGN multilingual 84.1, M3P 36.8 |"
    )
    assert table[4].endswith("| ALIGN multilingual 63.2, M3P 20.4 |")
    classes = result | {"top1": 3.0, "languages": {"de": {"n": 2, "top1": 4.0}}, "intervals": {}}
    table = markdown([Entry("c", "zero_shot", Namespace(), "")], {"c": classes}, {})
    assert "| c | zero_shot | languages de top1 | 2 | 4.0 |  |  |\n" in table


def test_what_was_published_is_beside_one_tasks_result(suite: dict, tmp_path: Path, capsys):
    """Its metrics are paths of results, so that a row that is never shown is noticed."""
    page = tmp_path / "page.html"
    flags = (f"--data={suite['sets'][5]['data']}", f"--page={page}")
    result = evaluated(capsys, "words", *flags, "--compare_published=simlex999")
    assert result["published"]["ALIGN"]["parts verbs spearman"] == 16.6
    assert "<td>ALIGN 39.8</td>" in page.read_text()
    says = refused(capsys, "words", *flags, "--compare_published=wordsim")
    assert "there is simlex999" in says
    (captions, _, knn, probe), shown = suite["sets"][:4], {}
    for entry in (captions, knn, probe):
        named = [f"--{name}={entry[name]}" for name in ("data", "images", "test") if name in entry]
        shown[entry["task"]] = {row[0] for row in numbers(evaluated(capsys, entry["task"], *named))}
    for (task, name), scores in PUBLISHED.items():
        for metric in {metric for own in scores.values() for metric in own}:
            if task in shown and not metric.startswith("languages"):
                assert metric in shown[task], (name, metric)


def test_each_task_has_rows_in_the_table():
    assert METRICS.keys() == TASKS.keys() - {"suite"}


def test_why_a_set_failed_is_told_to_its_end():
    suite = [Entry("a", "knn", Namespace(), ""), Entry("b", "knn", Namespace(), "")]
    failed = {"a": "a path, " * 60 + "or a|b:\n do this", "b": "many words " * 1000}
    _, _, whole, cut = markdown(suite, {}, failed).splitlines()
    assert "or a\\|b: do this |" in whole
    assert " … |" in cut
    assert len(cut) < 2100


def test_one_that_fails_stops_no_other(
    suite: dict, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr("alignset.train.evaluate.tasks.knn.neighbours", broken)
    suite["sets"] = [suite["sets"][number] for number in (0, 2, 5)]
    suite["sets"][0]["data"] = str(tmp_path / "nothing.csv")
    assert run("suite", *flags_of(tmp_path, suite)) == 1
    printed = capsys.readouterr().err
    assert "2 of 3 sets failed (flickr30k, knn)" in printed.splitlines()[-1]
    assert "flickr30k: there is no file" in printed
    assert "knn: ZeroDivisionError: a b\n" in printed
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert {line.count("|") for line in table} == {8}
    assert table[2].startswith("| flickr30k | retrieval | failed: there is no file ")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"words.json", "table.md"}


def test_a_file_that_is_none_is_told_in_a_line(tmp_path: Path, capsys):
    words = {"name": "a", "task": "words", "data": "x"}
    for suite, text in (
        ({}, "has no datasets"),
        ([1], "has no datasets"),
        ({"sets": [1]}, "must have a name and a task"),
        ({"sets": [words | {"task": "nothing"}]}, "has the task 'nothing'"),
        ({"sets": [words | {"task": "suite"}]}, "has the task 'suite'"),
        ({"sets": [words | {"name": "../a"}]}, "can't be the name of a file"),
        ({"sets": [{"name": "a", "task": "words"}]}, "a: the following arguments are required"),
        ({"sets": [words | {"k": 1}]}, "unrecognized"),
        ({"sets": [words] * 2}, "2 sets called 'a'"),
    ):
        assert text in refused(capsys, "suite", *flags_of(tmp_path, suite))
    # A list that is larger than memory is not written out.
    lists = ["l0: &l0 [x]", *(f"l{n}: &l{n} [*l{n - 1}, *l{n - 1}]" for n in range(1, 31))]
    flags = flags_of(tmp_path, {})
    for content in (
        *(b"a: [", b"\xff", b"[" * 100_000, b"!!python/object:os.system {}"),
        *("\n".join([*lists, f"sets: [{entry}]"]).encode() for entry in ("*l30", "{name: *l30}")),
    ):
        (tmp_path / "suite.yaml").write_bytes(content)
        assert "suite.yaml" in refused(capsys, "suite", *flags)
