"""Wrong input about a run folder: what is damaged, in the way, or made with other settings; nothing in it is changed."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from raydistill.data.sources import MNIST
from tests.tiny import call, listing, shell, write_search
from tests.wrong import alone, wrong

__all__ = ["alone"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a search without trials, done up to its set."""
    folder = tmp_path_factory.mktemp("finished")
    search = write_search(folder)
    assert _distill(search, folder / "runs") == 0
    return folder / "runs" / "other"


def _distill(search: Path, out: Path) -> int:
    command, environment = shell("distill", f"{search}:other", "--address", "in-process", "--quiet", "--out", out)
    return subprocess.run(command, env=environment, capture_output=True, timeout=300, check=False).returncode


@pytest.fixture
def run_folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of ``finished`` that a test may damage."""
    return Path(shutil.copytree(finished, tmp_path / "runs" / "other"))


def test_nas_that_is_not_asked_for(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = listing(run_folder)
    said = call(
        capsys,
        "nas",
        f"{write_search(tmp_path)}:other",
        "--set",
        "nas=null",
        "--out",
        "runs",
        "--address",
        "in-process",
    )
    wrong(said, "nas=None", "--set nas={}")
    assert listing(run_folder) == before


def test_run_folder_that_exists(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = listing(run_folder)
    said = call(capsys, "run", f"{write_search(tmp_path)}:other", "--out", "runs", "--address", "in-process", "--quiet")
    wrong(said, "runs/other", "--resume", "--out")
    assert listing(run_folder) == before


def test_stage_with_other_settings_than_its_folder_was_made_with(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(run_folder)
    given = [f"{write_search(tmp_path)}:other", "--out", "runs", "--address", "in-process", "--quiet"]
    for stage in ("experts", "distill", "nas"):
        for resume in ([], ["--resume"]):
            other = ["--seed", "9", "--set", "distill.lr_img=5", *resume]
            parts = ["runs/other was made with seed=0, distill.lr_img=0.1", "has seed=9, distill.lr_img=5.0; restore"]
            wrong(call(capsys, stage, *given, *other), *parts, "runs/other/search.json", "--out", "remove the folder")
    wrong(call(capsys, "distill", *given, "--set", 'evaluate.networks=["MLP"]'), 'evaluate.networks="", ', '"MLP"')
    assert listing(run_folder) == before


def test_stage_with_settings_of_its_own(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["nas", f"{write_search(tmp_path)}:other", "--out", "runs", "--address", "in-process", "--quiet"]
    said = call(capsys, *given, "--set", 'nas.networks=["ConvNetD1"]', "--set", "budget.max_failures=1", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["stages"]["nas"]["names"] == 1
    said = call(capsys, *given, "--confirm", "all", "--set", "nas.confirm_epochs=1", "--json")
    assert len(json.loads(said.out)["stages"]["nas"]["full"]["networks"]) == 2
    assert call(capsys, "nas", run_folder / "search.json", *given[2:]).code == 0


def test_resume_with_other_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["search", write_search(tmp_path), "--quiet", "--address", "in-process", "--out", "runs"]
    assert call(capsys, *given).code == 0
    before = listing(tmp_path / "runs")
    wrong(call(capsys, *given, "--resume", "--set", "distill.iterations=5"), "distill.iterations=4", "--out")
    wrong(call(capsys, *given, "--resume", "--set", "budget.grace=1"), "trial 0", "--out")
    wrong(call(capsys, "run", *given[1:], "--resume", "--seed", "9"), "trial 0", "--out")
    assert listing(tmp_path / "runs") == before


def test_file_in_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    given = ["run", write_search(tmp_path), "--quiet", "--address", "in-process", "--out", "file"]
    wrong(call(capsys, *given), "file", "--out")
    assert (tmp_path / "file").read_text() == "mine"


def test_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "locked"
    out.mkdir()
    if os.geteuid() == 0:
        out = Path("/proc/raydistill")  # where not even root can make a folder
    else:
        out.chmod(0o500)
    wrong(call(capsys, "run", write_search(tmp_path), "--address", "in-process", "--out", out), str(out), "--out")


def test_path_that_no_disk_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["run", write_search(tmp_path), "--quiet", "--address", "in-process"]
    wrong(call(capsys, *given, "--out", "a" * 300), "aaa", "File name too long", "choose another place")
    wrong(call(capsys, "report", "a" * 300), "aaa", "File name too long")


# A run's set, made wrong: what is done to it, what the message names.
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "tensors-missing": (lambda s: (s / "tensors.safetensors").unlink(), "tensors.safetensors"),
    "tensors-damaged": (lambda s: (s / "tensors.safetensors").write_bytes(b"rubbish"), "checksum"),
    "manifest-missing": (lambda s: (s / "manifest.json").unlink(), "manifest.json"),
    "manifest-damaged": (lambda s: (s / "manifest.json").write_text("{"), "damaged"),
    "foreign": (lambda s: (s / "manifest.json").write_text('{"kind": "model"}'), "not a distilled set"),
    "newer": (lambda s: (s / "manifest.json").write_text('{"kind": "distilled set", "schema": 99}'), "schema 99"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_sets(case: str, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage, part = DAMAGE[case]
    damage(run_folder / "units" / "distill" / "final" / "set")
    before = listing(run_folder)
    wrong(call(capsys, "evaluate", run_folder, "--quiet"), part)
    wrong(call(capsys, "export", run_folder, "--out", "picture.png"), part)
    assert not Path("picture.png").exists()
    assert listing(run_folder) == before


@pytest.mark.parametrize(
    "options, parts",
    [
        (["--network", "AlexNett"], ["'AlexNett'", "AlexNet"]),
        (["--network", "ConvNet"], ["'ConvNet'", "ConvNetBN"]),
        (["--network", "ConvNetD5"], ["8x8", "largest depth possible is 3"]),
        (["--protocol", "felt"], ["'felt'", "field"]),
        (["--data", "MNISTT"], ["'MNISTT'", "MNIST"]),
        (["--data", "MNIST"], ["MNIST", "no network in tests"]),
        (["--students", "few"], ["--students", "integer"]),
    ],
)
def test_evaluate(options: list[str], parts: list[str], run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong(call(capsys, "evaluate", run_folder, "--quiet", *options), *parts)


def test_evaluate_on_images_of_another_shape(
    run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from raydistill.data.images import ImageSet

    images = ImageSet(np.zeros((10, 1, 28, 28), np.uint8), np.arange(10), tuple("0123456789"))
    monkeypatch.setattr(MNIST, "look", lambda *args: Path("."))
    monkeypatch.setattr(MNIST, "read", lambda *args: images)
    wrong(call(capsys, "evaluate", run_folder, "--quiet", "--data", "MNIST"), "1x28x28", "1x8x8", "--data")


def test_evaluate_a_set_whose_data_are_not_noted(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from raydistill.data.distilled import DistilledSet

    whole = DistilledSet.load(run_folder / "units" / "distill" / "final" / "set")
    DistilledSet(whole.pixels, whole.labels, whole.encoding, whole.classes).save("bare")
    wrong(call(capsys, "evaluate", "bare", "--quiet"), "bare", "--data")


def test_report_on_a_damaged_run(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_folder / "search.json").write_text("{")
    wrong(call(capsys, "report", run_folder, "--out", "page"), "search.json")
    assert not Path("page").exists()


def test_report_names_a_run_twice(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong(call(capsys, "report", run_folder, run_folder, "--out", "page"), "twice")
    assert not Path("page").exists()


def test_export_onto_a_file_in_the_way(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("mine")
    wrong(call(capsys, "export", run_folder, "--to", "imagefolder", "--out", "taken"), "taken")
    assert Path("taken").read_text() == "mine"


def test_damaged_results_of_a_run_to_resume(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_folder / "results.json").write_text("{")
    given = ["run", f"{write_search(tmp_path)}:other", "--resume", "--out", "runs", "--address", "in-process"]
    wrong(call(capsys, *given), "results.json", "damaged")


def test_stored_search_of_a_run_is_accepted(run_folder: Path) -> None:
    """What is refused above is not refused for its form alone."""
    assert json.loads((run_folder / "search.json").read_text())["name"] == "other"
