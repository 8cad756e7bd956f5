"""How many pieces share a GPU, with GPUs that are only said to be there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from raydistill import definitions, plan, sharing
from raydistill.data.load import load_train
from raydistill.errors import ConfigError
from raydistill.runtime.local import Local
from raydistill.search.definition import Search
from tests.tiny import call, write_search

GB = 10**9


class OnGPUs:
    """A machine with GPUs of 24 GB, of which NAS's networks take 5 GB and all other work 1.5 GB."""

    def __init__(self, accelerators: Sequence[str] = ()) -> None:
        self.accelerators = accelerators
        self.asked: list[tuple[int, float]] = []

    def capacity(self, cpus: float, gpus: float, accelerator: str | None = None) -> int:
        """Four pieces of a GPU each."""
        if accelerator is not None and accelerator not in self.accelerators:
            raise ConfigError(f"accelerator={accelerator!r}: no machine of this cluster has one")
        return 4

    def map(
        self,
        function: Callable[..., Any],
        items: Sequence[Mapping[str, Any]],
        shared: Mapping[str, Any],
        cpus: float = 1,
        gpus: float = 0,
        accelerator: str | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Time pieces on the processor, and say what a GPU would."""
        self.asked.append((len(items), gpus))
        for index, item in enumerate(items):
            timed = function(**shared, **item, device="cpu")
            taken = 5 * GB if item.get("network") == "ConvNetD2" else 1.5 * GB
            yield index, {**timed, plan.GPU_TAKEN: taken, plan.GPU_TOTAL: 24.0 * GB}


def loaded(folder: Path, *changes: str) -> Search:
    return definitions.load(str(write_search(folder)), list(changes))


@pytest.mark.parametrize(
    ("taken", "total", "expected"),
    [
        (2 * GB, 80 * GB, 0.125),  # 26 would fit
        (10 * GB, 80 * GB, 0.1666),
        (20 * GB, 80 * GB, 0.3333),
        (40 * GB, 80 * GB, 1),
        (79 * GB, 80 * GB, 1),  # whether it fits is seen when it runs
        (1, 10**9, 1),
    ],
)
def test_as_many_as_memory_has_room_for_and_no_more_than_are_of_use(taken: int, total: int, expected: float) -> None:
    found = sharing.share(taken, total)
    assert found == expected
    assert int(1 / found) == round(1 / found), "Ray counts whole pieces"


def test_each_stage_has_its_share_and_pieces_are_tried_alone(tmp_path: Path) -> None:
    search = loaded(tmp_path, 'budget.resources={"evaluate": {"gpus": 0.5}}')
    machine, notes = OnGPUs(), list[str]()
    found = sharing.settled(search, load_train(search.data), machine, ("search", "evaluate", "nas"), notes.append)  # type: ignore[arg-type]
    shares = {stage: found.budget.of(stage).gpus for stage in ("search", "evaluate", "nas")}
    assert shares == {"search": 0.125, "evaluate": 0.5, "nas": 0.3333}
    assert set(machine.asked) == {(1, 1.0)}
    assert notes[1:] == [
        "search: 8 on a GPU of 24 GB at once, for one took 1.5 GB",
        "nas: 3 on a GPU of 24 GB at once, for one took 5.0 GB",
    ]


def test_without_a_gpu_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(plan, "gpu_memory", None)
    search = loaded(tmp_path)
    found = sharing.settled(search, load_train(search.data), Local(), ("search", "nas"), pytest.fail)
    assert [found.budget.asks(stage) for stage in ("search", "nas", "experts")] == [0.0, 0.0, "auto"]
    assert search.budget.asks("nas") == "auto"


def test_what_is_said_is_not_tried(tmp_path: Path) -> None:
    search = loaded(tmp_path, "budget.gpus=0.25")
    assert sharing.settled(search, load_train(search.data), None, ("search", "nas"), pytest.fail) is search  # type: ignore[arg-type]


def test_an_accelerator_that_is_not_there_is_refused(tmp_path: Path) -> None:
    search = loaded(tmp_path, "budget.accelerator=H100")
    with pytest.raises(ConfigError, match="accelerator='H100': no machine"):
        sharing.settled(search, load_train(search.data), OnGPUs(["A100"]), ("nas",), pytest.fail)  # type: ignore[arg-type]


def test_the_command_line_refuses_it_too_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["run", write_search(tmp_path), "--set", "budget.accelerator=H100", "--out", tmp_path / "out"]
    said = call(capsys, *given, "--address", "in-process")
    assert (said.code, said.out) == (2, "")
    assert "gpus=1: PyTorch sees no GPU here" in said.err
    assert not (tmp_path / "out").exists()
