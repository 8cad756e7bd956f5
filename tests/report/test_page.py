import base64
import html
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from raydistill import artifacts
from raydistill.artifacts import Unit, units, write_json
from raydistill.data.distilled import DistilledSet
from raydistill.errors import ArtifactError, ConfigError
from raydistill.report import page, tables
from raydistill.report.page import write_report
from tests.report.fake import fake_run

VOID = {"meta", "img", "input", "br", "link", "hr"}


class Page(HTMLParser):
    """What a browser would see: links, sources, texts; fails on tags that are not closed."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.anchors: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(file.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for key, value in attrs:
            assert not key.startswith("on"), f"script in {tag}"
            if key in ("src", "href"):
                self.links.append(value or "")
            if key == "id":
                self.anchors.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def test_the_page_needs_nothing_but_itself(written: Path) -> None:
    shown = Page(written / "index.html")
    assert shown.links
    for link in shown.links:
        assert link.startswith("data:image/png;base64,") or link[1:] in shown.anchors, link[:60]
    assert "script" not in shown.tags
    assert "link" not in shown.tags
    assert not re.search(r"url\(|@import", (written / "index.html").read_text(encoding="utf-8"))


def test_every_picture_is_inline_and_a_file(written: Path) -> None:
    source = (written / "index.html").read_text(encoding="utf-8")
    inline = [base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([^\"]+)", source)]
    files = {file.read_bytes() for file in written.glob("*.png")}
    assert files == set(inline)
    assert len(files) == len(list(written.glob("*.png"))) == 8
    for data in files:
        Image.open(io.BytesIO(data)).verify()


def test_every_accuracy_is_on_the_page_and_in_the_files(finished: Path, written: Path) -> None:
    shown = Page(written / "index.html").text
    markdown = (written / "report.md").read_text(encoding="utf-8")
    csv = pd.read_csv(written / "accuracy.csv")
    for position, row in enumerate(tables.accuracy_table(finished).to_dict("records")):
        assert csv.loc[position, "mean"] == row["mean"]
        assert [float(value) for value in str(csv.loc[position, "runs"]).split()] == list(row["runs"])
        for value in (row["mean"], *row["runs"]):
            assert f"{100 * value:.2f}" in shown
            assert f"{100 * value:.2f}" in markdown


def test_every_table_is_a_file_that_reads_back(finished: Path, written: Path) -> None:
    names = {file.stem for file in written.glob("*.csv")}
    assert names == {"accuracy", "chosen", "trials", "nas", "nas_proxies", "stages", "unfinished"}
    trials = pd.read_csv(written / "trials.csv")
    expected = tables.trials_table(finished)
    assert trials["number"].tolist() == expected["number"].tolist()
    assert trials["distill.lr_img"].tolist() == pytest.approx(expected["distill.lr_img"].tolist())
    assert len(pd.read_csv(written / "nas.csv")) == 22


def test_markdown_points_to_files_that_are_there_and_its_tables_are_whole(written: Path) -> None:
    markdown = (written / "report.md").read_text(encoding="utf-8")
    linked = re.findall(r"!\[.*?\]\((.*?)\)", markdown)
    assert len(linked) == 8
    assert all((written / name).is_file() for name in linked)
    for block in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(cells) == 1, block


def test_the_page_says_what_the_numbers_are(finished: Path, written: Path) -> None:
    shown = Page(written / "index.html").text
    results = artifacts.read_json(finished / "results.json")
    for fact in (results["git_commit"], results["machine"], results["run_id"], "torch 2.15.0"):
        assert fact in shown
    assert "selected on the validation split (10 % of the training images)" in shown
    assert "the test set was read once" in shown
    assert "Protocol “field”: students trained from scratch for 1000 epochs" in shown
    assert "5 students" in shown
    assert "judged on the validation split" in shown  # the networks' ranking
    assert f"raydistill run {finished}/search.json --out again" in shown
    assert '"split_seed": 0' in shown  # every setting


def test_the_same_run_gives_the_same_report(finished: Path, written: Path, tmp_path: Path) -> None:
    write_report([finished], tmp_path / "again")
    for file in written.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_report_goes_into_the_run_folder_and_over_an_earlier_one(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=0, nas=False)
    keep = run / "report/notes.txt"
    artifacts.write_text(keep, "mine")
    assert write_report([run], run / "report") == run / "report/index.html"
    write_report([run], run / "report")
    assert keep.read_text() == "mine"


def test_a_run_that_has_only_begun_says_what_is_missing_and_how_to_get_it(tmp_path: Path) -> None:
    run = fake_run(tmp_path)
    for path in ("units", "results.json"):
        (run / path).rename(tmp_path / path)
    shown = Page(write_report([run], tmp_path / "out")).text
    for missing in (
        "No evaluation has finished yet",
        "has not stored its set yet",
        "has logged nothing yet",
        "No trial has begun yet",
        "No architecture has been trained",
        "results.json is not there",
    ):
        assert missing in shown
    assert f"raydistill run {run}/search.json --resume --out {tmp_path}" in shown
    assert not list((tmp_path / "out").glob("*.png"))


@pytest.mark.parametrize("gone", ["distill/final/initial", "distill/final/set", "distill", "trial", "nas", "evaluate"])
def test_each_part_may_be_missing(tmp_path: Path, gone: str) -> None:
    run = fake_run(tmp_path, trials=4)
    (run / "units" / gone).rename(tmp_path / "gone")
    assert len(Page(write_report([run], tmp_path / "out")).text) > 1000


def test_a_search_without_space_or_nas_says_so(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=0, nas=False)
    shown = Page(write_report([run], tmp_path / "out")).text
    assert "Nothing was searched" in shown
    assert "'nas={}'" in shown


def test_multi_formation_is_said_wherever_the_set_is_named(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=0, distill={"factor": 2})
    out = write_report([run], tmp_path / "out")
    shown = Page(out).text
    assert "distilled, factor 2 (multi-formation)" in shown
    assert "trained on the distilled set, factor 2 (multi-formation)" in shown
    assert "each stored image holds 4 sub-images" in shown


def test_an_unfinished_arm_is_named(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=0, nas=False)
    Unit(run / "units/evaluate/distilled-ConvNetD3").begin("x" * 16, {}, {})
    shown = Page(write_report([run], tmp_path / "out")).text
    assert "evaluate/distilled-ConvNetD3" in shown
    assert "has not been evaluated yet" in shown


EVIL = "</title><script>alert(1)</script>|\"'`$x_{$&"


def test_names_that_are_code_stay_text(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=4)
    search = artifacts.read_json(run / "search.json")
    search["name"] = search["data"]["source"] = search["evaluate"]["protocol"]["name"] = EVIL
    write_json(run / "search.json", search)
    results = artifacts.read_json(run / "results.json")
    write_json(run / "results.json", {**results, "machine": EVIL, "versions": {EVIL: EVIL}})
    for unit in units(run):
        record = unit.read()
        named = {
            key: EVIL
            for key in ("network", "protocol", "message", "taken_from")
            if key in record or unit.kind == "distill"
        }
        write_json(unit.file, {**record, **named})
    for folder in ("set", "initial"):
        images = DistilledSet.load(run / "units/distill/final" / folder)
        images.classes = (EVIL, *images.classes[1:])
        images.save(run / "units/distill/final" / folder)
    out = write_report([run], tmp_path / "out")
    shown = Page(out)
    assert "script" not in shown.tags
    assert EVIL in shown.text
    markdown = (out.parent / "report.md").read_text(encoding="utf-8")
    assert "<script" not in "\n".join(line for line in markdown.splitlines() if not line.startswith("    "))


def test_passwords_in_the_trackers_address_are_left_out(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=0, nas=False)
    results = artifacts.read_json(run / "results.json")
    results["mlflow"]["tracking_uri"] = "https://someone:opensesame@tracker.example/api"
    write_json(run / "results.json", results)
    source = write_report([run], tmp_path / "out").read_text(encoding="utf-8")
    assert "tracker.example" in source
    assert "opensesame" not in source


def test_a_renamed_folder_is_resumed_under_its_name(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=0, nas=False)
    run = run.rename(tmp_path / "my copy")
    shown = Page(write_report([run], tmp_path / "out")).text
    assert (
        f"raydistill run '{run}/search.json' --set 'name=my copy' --set 'nas={{}}' --resume --out {tmp_path}" in shown
    )


def test_wrong_input_is_said_in_one_line(tmp_path: Path, finished: Path) -> None:
    with pytest.raises(ConfigError, match="no run"):
        write_report([], tmp_path)
    with pytest.raises(ConfigError, match="twice"):
        write_report([finished, finished / ".." / finished.name], tmp_path)
    with pytest.raises(ArtifactError, match=r"search\.json"):
        write_report([tmp_path], tmp_path / "out")


@pytest.mark.parametrize(
    ("texts", "numeric"),
    [(["1", "2.5", "–"], True), (["93.4 ± 0.2", "1e-07"], True), (["real", "1"], False), (["12 trials", "5"], False)],
)
def test_columns_of_numbers_are_told_from_texts(texts: list[str], numeric: bool) -> None:
    assert page.is_numeric(texts) is numeric


def test_csv_joins_the_students_and_quotes_what_needs_it() -> None:
    frame = pd.DataFrame({"name": ['a,"b"'], "runs": [(0.1, 0.25)]})
    back = pd.read_csv(io.StringIO(page.to_csv(frame)))
    assert back.loc[0].tolist() == ['a,"b"', "0.1 0.25"]


def test_markdown_escapes(written: Path) -> None:
    assert page._safe("a|b <i> [x](y) *z*\nw") == "a\\|b &lt;i&gt; \\[x\\](y) \\*z\\* w"
    assert html.unescape(page._safe("1 < 2 & 3")) == "1 < 2 & 3"


def test_importing_the_report_loads_nothing_heavy() -> None:
    code = (
        "import sys, raydistill.report.page, raydistill.report.tables, raydistill.report.export\n"
        "print([m for m in ('matplotlib', 'pandas', 'jinja2', 'optuna', 'ray', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
