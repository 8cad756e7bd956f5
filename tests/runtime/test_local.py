"""Work in this process."""

import numpy as np
import pytest
import torch

from raydistill.errors import ConfigError, OutOfGPUMemory, OutOfMemory
from raydistill.runtime.base import ALLOCATOR, WAITING, worker_environment
from raydistill.runtime.local import Local
from tests.runtime import work


def test_results_come_in_order() -> None:
    items = [{"x": x} for x in (3, 1, 2)]
    found = list(Local().map(work.scale, items, {"table": np.ones(4)}))
    assert found == [(0, (12.0, "cpu")), (1, (4.0, "cpu")), (2, (8.0, "cpu"))]


def test_a_call_computes_with_the_threads_it_was_given_and_they_are_restored() -> None:
    before = torch.get_num_threads()
    items = [{"name": "NONE"}]
    for cpus, threads in ((0.5, 1), (1, 1), (2.9, 2)):
        [(_, seen)] = Local().map(work.look, items, {"table": np.ones(1)}, cpus=cpus)
        assert seen["threads"] == threads
        assert torch.get_num_threads() == before


def test_work_is_done_as_it_is_asked_for() -> None:
    results = Local().map(work.refuse, [{"x": 3}, {"x": 1}], {})
    assert next(results) == (0, 3)
    with pytest.raises(ConfigError, match="too small"):
        next(results)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"gpus=0\.5: PyTorch sees no GPU here; set it to 0"):
        list(Local().map(work.refuse, [{"x": 3}], {}, gpus=0.5))


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB.\nSee …"), OutOfGPUMemory),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), OutOfMemory),
        (MemoryError("Unable to allocate 9 TiB"), OutOfMemory),
    ],
)
def test_memory_that_does_not_suffice_is_one_line(error: Exception, named: type[Exception]) -> None:
    with pytest.raises(
        named, match=r"^piece 1 of 1 ran out of memory \([^\n]*\); use smaller batches or networks, or"
    ) as caught:
        list(Local().map(work.fail, [{"error": error}], {}))
    assert type(caught.value) is named


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2$"):
        list(Local().map(work.fail, [{"error": RuntimeError("mat1 and mat2")}], {}))


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_how_threads_wait_is_left_to_whoever_has_set_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(other, raising=False)
    assert worker_environment() == ALLOCATOR | WAITING
    monkeypatch.setenv(name, "active")
    assert worker_environment() == ALLOCATOR
