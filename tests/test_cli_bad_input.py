"""Wrong input: exit code 2, one line on stderr that names what is wrong and the way out, and nothing left behind.

Wrong input about a run folder: ``test_cli_bad_runs.py``.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.data.made import write_folder, write_mnist
from tests.tiny import TEXT, Said, call, listing, shell, write_search
from tests.wrong import alone, refused, wrong

__all__ = ["alone"]


# One --set a case: setting, what the message names.
SETTINGS = {
    "unknown-key": ("distill.lr_imgs=1", "distill.lr_imgs", "did you mean 'distill.lr_img'?"),
    "unknown-top-key": ("distil=1", "'distil'", "did you mean"),
    "through-a-scalar": ("seed.x=1", "'seed.x'", "did you mean 'seed'"),
    "no-equals": ("distill.iterations", "'distill.iterations'", "KEY=VALUE"),
    "no-key": ("=3", "'=3'", "KEY=VALUE"),
    "no-value": ("distill.iterations=", "iterations", "integer"),
    "wrong-type": ("distill.iterations=many", "iterations='many'", "integer"),
    "fraction-for-integer": ("distill.iterations=1.5", "iterations=1.5", "integer"),
    "nan": ("distill.lr_img=NaN", "lr_img=nan", "finite"),
    "thousands-of-digits": (f"distill.iterations={'9' * 5000}", "iterations", "integer"),
    "ipc-0": ("distill.ipc=0", "ipc=0", "greater than or equal to 1"),
    "lr-negative": ("distill.lr_img=-1", "lr_img=-1", "greater than 0"),
    "momentum-1": ("distill.momentum=1", "momentum=1", "less than 1"),
    "power-0": ("distill.power=0", "power=0", "greater than or equal to 1"),
    "factor-9": ("distill.factor=9", "factor=9", "less than or equal to 4"),
    "val-fraction-0": ("data.val_fraction=0", "val_fraction=0", "greater than 0"),
    "val-fraction-1": ("data.val_fraction=1", "val_fraction=1", "less than 1"),
    "batch-0": ("evaluate.protocol.batch=0", "batch=0", "greater than or equal to 1"),
    "students-0": ("evaluate.students=0", "students=0", "greater than or equal to 1"),
    "trials-0": ("budget.trials=0", "trials=0", "greater than or equal to 1"),
    "cpus-0": ("budget.cpus=0", "cpus=0", "greater than 0"),
    "unknown-sampler": ("budget.sampler=bohb", "sampler='bohb'", "tpe"),
    "unknown-method": ("distill.method=DataDAN", "'DataDAN'", "DataDAM"),
    "ambiguous-network": ("distill.network=ConvNet", "'ConvNet'", "ConvNetBN"),
    "network-depth-9": ("distill.network=ConvNetD9", "'ConvNetD9'", "ConvNetD"),
    "network-typo": ("distill.network=AlexNett", "'AlexNett'", "AlexNet"),
    "network-too-deep": ("distill.network=ConvNetD5", "8x8", "largest depth possible is 3"),
    "student-too-deep": ('evaluate.networks=["ConvNetD4"]', "8x8", "largest depth possible is 3"),
    "nas-too-deep": ('nas.networks=["ConvNetD4"]', "8x8", "largest depth possible is 3"),
    "nas-unknown": ('nas.networks=["ConvNetD11"]', "'ConvNetD11'", "did you mean"),
    "unknown-source": ("data.source=MNISTT", "'MNISTT'", "MNIST"),
    "unknown-augment": ("distill.augment=digit", "'digit'", "digits"),
    "unknown-student-augment": ("evaluate.protocol.augment=naturall", "'naturall'", "natural"),
    "unknown-init": ("distill.init=reel", "init='reel'", "'real'"),
    "baseline-twice": ('evaluate.baselines=["random","random"]', "baselines", "'random' is named twice"),
    "student-twice": ('evaluate.networks=["MLP","MLP"]', "networks", "'MLP' is named twice"),
    "proxy-twice": ('nas={"baselines":["random","random"]}', "baselines", "'random' is named twice"),
    "unknown-baseline": ('evaluate.baselines=["best"]', "baselines", "'random'"),
    "ipc-beyond-class": ("distill.ipc=200", "distill.ipc=200", "lower it"),
    "ipc-beyond-class-parts": ("distill={}", "method", "DataDAM"),
    "bad-name": ("name=../escape", "name='../escape'", "pattern"),
    "path-without-effect": ("data.path=x", "path has no effect", "folder"),
    "folder-without-path": ("data.source=folder", "needs path", "train/CLASS"),
    "resolution-without-effect": ("data.resolution=56", "resolution has no effect", "source='MHIST'"),
    "agreement-without-effect": ("data.min_agreement=6", "min_agreement has no effect", "source='MHIST'"),
    "mhist-missing": ("data.source=MHIST", "no annotations.csv in", "/MHIST or ", "https://bmirds.github.io/MHIST/"),
    "tiles-missing": ("data.source=generated tiles", "no annotations.csv with generated.json", "--generate-tiles DIR"),
    "pool-no-multiple": ("distill.network_pool=0", "network_pool=0", "greater than or equal to 1"),
    "stages-descend": ("distill.network_stages=[5, 1]", "network_stages=(5, 1)", "ascending"),
    "several-stages-no-pool": ("distill.network_stages=[0, 5]", "network_stages", "set network_pool"),
    "space-outside": ('space={"seed": {"kind": "int", "low": 0, "high": 3}}', "'seed'", "distill.lr_img"),
    "space-unknown": ('space={"distill.lr": {"kind": "float", "low": 1, "high": 2}}', "'distill.lr'", "did you mean"),
    "space-reversed": ('space={"distill.lr_img": {"kind": "float", "low": 2, "high": 1}}', "low=2", "high=1"),
    "space-log-0": (
        'space={"distill.lr_img": {"kind": "float", "low": 0, "high": 1, "log": true}}',
        "log scale",
        "above 0",
    ),
    "space-edge": ('space={"distill.momentum": {"kind": "float", "low": 0, "high": 1}}', "momentum=1", "less than 1"),
    "space-kind": ('space={"distill.momentum": {"kind": "normal"}}', "normal", "'float'"),
    "space-network": (
        'space={"distill.network": {"kind": "choice", "values": ["ConvNetD1", "ConvNetD5"]}}',
        "8x8",
        "largest depth possible is 3",
    ),
    "space-ipc": ('space={"distill.ipc": {"kind": "int", "low": 1, "high": 500}}', "ipc=500", "lower it"),
    "space-augment": (
        'space={"distill.augment": {"kind": "choice", "values": ["digits", "nature"]}}',
        "'nature'",
        "natural",
    ),
    "final-unknown": ('final={"distill.iteration": 9}', "'distill.iteration'", "did you mean"),
    "final-network": ('final={"distill.network": "ConvNetD5"}', "8x8", "largest depth possible is 3"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setting, *parts = SETTINGS[case]
    refused(capsys, ["run", write_search(tmp_path), "--set", setting], *parts)


def test_pool_that_is_no_multiple_of_its_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--set", "distill.network_pool=5", "--set", "distill.network_stages=[0, 10]"]
    refused(capsys, ["run", write_search(tmp_path), *settings], "network_pool=5", "use 4")


def test_coresets_need_as_many_images_as_the_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--set", "distill.init=noise", "--set", "distill.ipc=200"]
    refused(capsys, ["run", write_search(tmp_path), *settings], "distill.ipc=200", "lower it")


def test_gpu_where_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused(capsys, ["run", write_search(tmp_path), "--set", "budget.gpus=1"], "gpus=1", "set it to 0")


# What is in tiny.py: text, what the message names.
FILES = {
    "syntax": ("search = (\n", "tiny.py", "SyntaxError"),
    "raises": ("raise ValueError('no\\ngood')", "tiny.py does not run", "ValueError: no good"),
    "exits": ("import sys\nsys.exit('bye')", "tiny.py does not run", "SystemExit"),
    "imports-nothing-known": ("import raydistil", "tiny.py does not run", "raydistil"),
    "no-search": ("x = 1", "tiny.py defines no `search`", "it has none"),
    "not-a-search": ("search = {'name': 'x'}", "tiny.py defines no `search`", "it has none"),
    "another-name": (TEXT.replace("search = Search", "mine = Search").replace("= search.", "= mine."), "tiny.py:mine"),
    "bad-config": (TEXT.replace("ipc=1", "ipc=0"), "tiny.py", "ipc=0"),
    "bad-protocol": (TEXT.replace('protocol("fast", epochs=2)', 'protocol("fats")'), "protocol 'fats'", "fast"),
    "unknown-field": (TEXT.replace("ipc=1", "ipcs=1"), "unknown setting 'ipcs'", "did you mean 'ipc'?"),
}


@pytest.mark.parametrize("case", FILES)
def test_search_files(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, *parts = FILES[case]
    refused(capsys, ["run", write_search(tmp_path, text)], *parts)


# What search.json holds: text, what the message names.
STORED = {
    "damaged": ('{"name": ', "search.json is no search", "damaged"),
    "list": ("[1, 2]", "search.json is no search", "it holds no names)"),
    "other-document": ('{"schema": 1, "kind": "distilled set"}', "search.json is no search", "name"),
    "other-method": ('{"name": "x", "distill": {"method": "MTT"}}', "search.json is no search", "'MTT'"),
    "binary": ("\x00\x01", "search.json is no search", "damaged"),
}


@pytest.mark.parametrize("case", STORED)
def test_stored_searches(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, *parts = STORED[case]
    (tmp_path / "search.json").write_text(text)
    refused(capsys, ["run", tmp_path / "search.json"], *parts)
    assert (tmp_path / "search.json").read_text() == text


def test_paths_of_searches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = write_search(tmp_path)
    refused(capsys, ["run", "nowhere.py"], "'nowhere.py'")
    refused(capsys, ["run", tmp_path], str(tmp_path))
    refused(capsys, ["run", "x" * 300 + ".py"], "no search file")
    refused(capsys, ["run", f"{search}:othr"], "'othr'", "did you mean other?")
    (tmp_path / "tiny.yaml").write_text("")
    refused(capsys, ["run", tmp_path / "tiny.yaml"], "tiny.yaml", ".py")


def test_hint_lists_the_searches_that_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "searches").mkdir()
    write_search(tmp_path / "searches")
    refused(capsys, ["run", "tinny.py"], "searches/tiny.py")


# Options: arguments after the search file, what the message names.
OPTIONS = {
    "unknown": (["--speed", "3"], "--speed", "--help"),
    "seed": (["--seed", "abc"], "--seed", "integer"),
    "address-word": (["--address", "somewhere"], "'somewhere'", "HOST:PORT"),
    "address-url": (["--address", "http://127.0.0.1:8265"], "http://127.0.0.1:8265", "HOST:PORT"),
    "address-port": (["--address", "127.0.0.1:abc"], "127.0.0.1:abc", "HOST:PORT"),
    "tracking-folder": (["--tracking-uri", "runs/mlruns"], "runs/mlruns", "sqlite:////"),
    "tracking-scheme": (["--tracking-uri", "ftp://x:y@host/db"], "ftp://", "http://HOST:PORT"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args, *parts = OPTIONS[case]
    refused(capsys, ["run", write_search(tmp_path), *args], *parts)


def test_credentials_are_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "run", write_search(tmp_path), "--tracking-uri", "ftp://x:secret@host/db", "--out", "fresh")
    assert said.code == 2
    assert "secret" not in said.err


@pytest.mark.parametrize(
    "args, parts",
    [
        (["run"], ["SEARCH", "run --help"]),
        (["runn", "x.py"], ["runn", "--help"]),
        (["evaluate", "nowhere"], ["nowhere"]),
        (["evaluate", "nowhere", "--students", "0"], ["--students", "1"]),
        (["report"], ["report --help"]),
        (["report", "nowhere"], ["nowhere"]),
        (["report", "."], ["search.json"]),
        (["export", "nowhere"], ["nowhere"]),
        (["export", "nowhere", "--to", "gif"], ["gif", "png"]),
        (["data", "MNSIT"], ["'MNSIT'", "MNIST"]),
        (["data", "--side", "56"], ["--side", "--generate-tiles"]),
        (["data", "--generate-tiles", "new", "--side", "5"], ["--side 5", "16"]),
        (["data", "--generate-tiles", "new", "--train-images", "2"], ["--train-images 2", "6 or more"]),
        (["data", "--generate-tiles", "new", "--test-images", "few"], ["--test-images", "integer"]),
        (["data", "MNIST", "--generate-tiles", "new"], ["MNIST", "leave it out"]),
    ],
)
def test_other_commands(args: list[str], parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong(call(capsys, *args), *parts)
    assert listing(tmp_path) == {}


def test_missing_mnist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    args = ["run", write_search(tmp_path), "--set", "data.source=MNIST", "--data-root", "empty"]
    refused(capsys, args, "MNIST", "empty", "--data-root", "no network in tests")


def test_corrupted_mnist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(b"\x00\x00\x08\x03 and then rubbish")
    args = ["run", write_search(tmp_path), "--set", "data.source=MNIST", "--data-root", "root"]
    refused(capsys, args, "train-images-idx3-ubyte")


# What is done to a copy of MHIST with its real counts but no images, what the message names.
MHIST_DAMAGE = {
    "label": (lambda text: text.replace("0.png,HP", "0.png,TA", 1), "line 2", "'TA'", "HP or SSA"),
    "partition": (lambda text: text.replace("train", "dev", 1), "line 2", "'dev'", "train or test"),
    "votes": (lambda text: text.replace("HP,0", "HP,9", 1), "line 2", "'9'", "0 to 7"),
    "contradiction": (lambda text: text.replace("HP,0", "HP,5", 1), "line 2", "5 of 7", "HP"),
    "column": (lambda text: text.replace("Partition", "Part", 1), "no column 'Partition'"),
    "twice": (lambda text: text + "0.png,HP,0,train\n", "0.png", "twice"),
    "count": (lambda text: text + "more.png,HP,0,train\n", "2,176 train images", "2,175"),
    "images": (lambda text: text, "no 0.png nor 2,174 other images", "annotations.csv"),
}


@pytest.mark.parametrize("case", MHIST_DAMAGE)
def test_damaged_mhist(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, *parts = MHIST_DAMAGE[case]
    votes = [("HP,0,train", 1500), ("SSA,7,train", 675), ("HP,0,test", 617), ("SSA,7,test", 360)]
    lines = [line for line, count in votes for _ in range(count)]
    header = "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition"
    (tmp_path / "root" / "MHIST" / "images").mkdir(parents=True)
    text = "\n".join([header, *(f"{i}.png,{line}" for i, line in enumerate(lines)), ""])
    (tmp_path / "root" / "MHIST" / "annotations.csv").write_text(change(text))
    args = ["run", write_search(tmp_path), "--set", "data.source=MHIST", "--data-root", "root"]
    refused(capsys, args, "root/MHIST", "https://bmirds.github.io/MHIST/", *parts)


def test_folder_of_one_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for part in ("train", "test"):
        (tmp_path / "pictures" / part / "cat").mkdir(parents=True)
        for i in range(4):
            Image.new("L", (8, 8), 60 * i).save(tmp_path / "pictures" / part / "cat" / f"{i}.png")
    args = ["run", write_search(tmp_path), "--set", "data.source=folder", "--set", f"data.path={tmp_path}/pictures"]
    refused(capsys, args, "class")


@pytest.mark.parametrize(
    ("gone", "parts"), [("test", ["no test/ in", "PATH/test"]), ("test/emu", ["'emu'", "both need"])]
)
def test_folder_whose_test_images_are_missing(
    gone: str, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(write_folder(tmp_path / "pictures") / gone)
    args = ["run", write_search(tmp_path), "--set", "data.source=folder", "--set", f"data.path={tmp_path}/pictures"]
    refused(capsys, [*args, "--set", "distill.ipc=1"], *parts)


def test_mnist_without_its_test_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in write_mnist(tmp_path / "root").rglob("t10k-*"):
        file.unlink()
    args = ["run", write_search(tmp_path), "--set", "data.source=MNIST", "--data-root", "root"]
    refused(capsys, [*args, "--set", "distill.ipc=1"], "t10k-images-idx3-ubyte", "no network in tests")


def test_class_whose_name_cannot_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "pictures")
    (folder / "train" / "emu").rename(folder / "train" / os.fsdecode(b"\xe9mu"))
    args = ["run", write_search(tmp_path), "--set", "data.source=folder", "--set", f"data.path={folder}"]
    refused(capsys, [*args, "--set", "distill.ipc=1"], "\\udce9mu", "rename it")


def test_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["run", write_search(tmp_path), "--set", "data.source=folder", "--set", "data.path=nowhere"]
    refused(capsys, args, "nowhere")


def test_stages_without_what_they_need(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = write_search(tmp_path)
    refused(capsys, ["distill", search], "completed trial", "raydistill search")
    refused(capsys, ["nas", search], "distilled set", "raydistill distill")
    refused(capsys, ["nas", search, "--confirm", "best"], "confirm='best'", "valid integer", "or 'all'")
    refused(capsys, ["search", f"{search}:other"], "empty space", "raydistill distill")


@pytest.mark.ray
def test_cluster_that_does_not_answer(tmp_path: Path) -> None:
    """In a process of its own: Ray keeps a thread of a failed start."""
    args = ["run", write_search(tmp_path), "--address", "127.0.0.1:9", "--out", tmp_path / "fresh"]
    _wrong_in_a_process(args, "127.0.0.1:9", "ray start --head")
    assert not (tmp_path / "fresh").exists()


def test_processes(tmp_path: Path) -> None:
    search = write_search(tmp_path)
    given = ["--address", "in-process", "--out", tmp_path / "fresh"]
    _wrong_in_a_process(["run", search, "--set", "distill.ipc=0", *given], "ipc=0")
    _wrong_in_a_process(["run", tmp_path / "no.py", *given], "no.py")
    _wrong_in_a_process(["runn"], "runn")
    assert not (tmp_path / "fresh").exists()


def _wrong_in_a_process(args: list[object], *parts: str) -> None:
    command, environment = shell(*args)
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    wrong(Said(ended.returncode, ended.stdout, ended.stderr), *parts)
