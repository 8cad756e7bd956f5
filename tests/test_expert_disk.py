"""The disk that experts need: known before the start, and not more than is said."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill import artifacts, definitions, expert_stage
from raydistill.artifacts import TENSORS
from raydistill.data.load import load_train
from raydistill.errors import EnvironmentIssue
from raydistill.experts.trajectory import Place, train_item
from raydistill.search.definition import Search
from tests.test_expert_stage import COMMON, TEXT, bytes_of, stamps
from tests.tiny import call, write_search


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_search(tmp_path, TEXT)


def test_a_full_disk_is_said_before_the_start(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search: Search = definitions.load(str(file))
    data = load_train(search.data)
    want = expert_stage.wanted(search)
    assert want is not None
    expected = 3 * 3 * 4 * sum(p.numel() for p in expert_stage.build("ConvNetD1", (1, 8, 8), 10, 0).parameters())
    assert expert_stage.disk_bytes(want, data) == expected
    free = type("Usage", (), {"free": expert_stage.peak_bytes(want, data, 3, 1)})
    assert free.free > 4 / 3 * expected
    monkeypatch.setattr("raydistill.expert_stage.shutil.disk_usage", lambda path: free)
    expert_stage._check_room(want, data, 3, 1, Place(tmp_path / "entry"))
    with pytest.raises(EnvironmentIssue, match=r"lower distill\.experts\.count"):
        expert_stage._check_room(want, data, 3, 2, Place(tmp_path / "entry"))
    # What a killed attempt has left counts.
    left = Place(tmp_path / "entry").part(0, 0) / TENSORS
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(expert_stage.peak_bytes(want, data, 3, 2) - free.free))
    expert_stage._check_room(want, data, 3, 2, Place(tmp_path / "entry"))


@pytest.mark.parametrize("setting", [{}, {"storage": "float16"}, {"first": 2}], ids=str)
def test_the_forecast_disk_is_what_training_takes_at_its_peak(
    file: Path, setting: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at whenever something is written; the files are as large as a real network's, but for the blocks' slack."""
    search = definitions.load(str(file)).override({"distill.network": "ConvNetD3", "data.source": "digits"})
    want = expert_stage.wanted(search)
    assert want is not None
    want = want._replace(epochs=4, first=setting.get("first", 0))
    storage = setting.get("storage", "float32")
    config = want.config.model_copy(update={"count": 1, "curriculum": None, "storage": storage, "epoch_steps": 1})
    want, data, seen = want._replace(config=config), load_train(search.data), [0]
    swap = artifacts.swap_in

    def looks(fresh: Path, path: Path) -> None:
        seen.append(sum(512 * found.stat().st_blocks for found in tmp_path.rglob("*") if "entry" in found.parts))
        swap(fresh, path)

    monkeypatch.setattr(artifacts, "swap_in", looks)
    train_item(
        data=data, config=config, network=want.network, root=str(tmp_path / "entry"), index=0, device="cpu",
        first=want.first, epochs=want.epochs,
    )  # fmt: skip
    forecast = expert_stage.peak_bytes(want, data, 1, 1)
    print(storage, want.first, max(seen), forecast, expert_stage.disk_bytes(want, data))
    assert max(seen) <= forecast <= 1.3 * max(seen)


def test_a_disk_that_fills_up_stops_the_job_and_what_is_done_is_kept(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call(capsys, "experts", file, "--out", tmp_path / "whole", *COMMON)
    out, save, written = tmp_path / "runs", artifacts.save_file, list[str]()

    def fills_up(tensors: dict[str, torch.Tensor], path: Path) -> None:
        written.append(str(path))
        if len(written) > 2 + 4 + 2:  # two networks' scores, the first expert, and two states of the second
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(tensors, path)

    monkeypatch.setattr(artifacts, "save_file", fills_up)
    said = call(capsys, "experts", file, "--out", out, *COMMON)
    assert said.code == 1, "it had begun"
    assert "No space left on device; free space or choose another --out" in said.err
    assert said.err.strip().count("\n") == 0
    ((done, before),) = stamps(out).items()
    monkeypatch.setattr(artifacts, "save_file", save)
    assert call(capsys, "experts", file, "--out", out, *COMMON).code == 0
    assert stamps(out)[done] == before
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
