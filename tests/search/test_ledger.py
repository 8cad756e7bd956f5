"""What may start next, read from the run folder."""

from pathlib import Path

import pytest

from raydistill.artifacts import COMPLETED, FAILED
from raydistill.errors import ArtifactError, ConfigError
from raydistill.search.definition import Search
from raydistill.search.ledger import Ledger
from raydistill.search.objective import trial_fingerprint
from raydistill.search.trials import trial_unit
from tests.search.fakes import make_search


def end(ledger: Ledger, number: int, status: str = COMPLETED, accuracy: float = 0.5) -> None:
    record = ledger.records[number]
    unit = trial_unit(ledger.run, number)
    unit.begin(trial_fingerprint(ledger.search, record.params), record.params, {})
    unit.log(4, {"val_accuracy": accuracy})
    unit.finish(status, {"val_accuracy": accuracy, "seconds": 1.0, "iterations": 30.0})
    ledger.settle(number)


def test_a_trial_waits_for_the_one_parallel_before_it_and_all_earlier(tmp_path: Path) -> None:
    ledger = Ledger(make_search(parallel=2), tmp_path)
    assert ledger.remaining() == list(range(8))
    assert [ledger.ready(n) for n in range(3)] == [True, False, False]
    ledger.assign(0)
    assert ledger.ready(1)
    ledger.assign(1)
    assert not ledger.ready(2)
    end(ledger, 1)
    assert not ledger.ready(2)  # 0 is still running, and 2 would see it
    end(ledger, 0)
    assert ledger.ready(2)


def test_a_failed_trial_is_settled(tmp_path: Path) -> None:
    ledger = Ledger(make_search(parallel=1), tmp_path)
    ledger.assign(0)
    end(ledger, 0, FAILED)
    assert ledger.ready(1)
    assert ledger.remaining()[0] == 1


def test_bars_are_handed_out_with_the_settings(tmp_path: Path) -> None:
    ledger = Ledger(make_search(parallel=1, reduction=2), tmp_path)
    for number, accuracy in enumerate((0.3, 0.6)):
        assert ledger.assign(number).bars == ({4: (0.3, 1)} if number else {})
        end(ledger, number, accuracy=accuracy)
    assert ledger.assign(2).bars == {4: (0.6, 2)}


def test_a_new_ledger_hands_out_the_same_again_and_interrupted_trials_keep_their_settings(tmp_path: Path) -> None:
    search = make_search(parallel=2)
    first = Ledger(search, tmp_path)
    for number in (0, 1):
        first.assign(number)
    end(first, 0)
    third = first.ready(2) and first.assign(2)
    unit = trial_unit(tmp_path, 1)
    unit.begin(trial_fingerprint(search, {"distill.lr_img": 3.0}), {"distill.lr_img": 3.0}, {})
    again = Ledger(search, tmp_path)
    assert again.remaining() == [1, 2, 3, 4, 5, 6, 7]
    assert again.assign(1).params == {"distill.lr_img": 3.0}
    assert third
    assert again.assign(2).bars == third.bars


def test_more_trials_and_other_workers_may_go_on_in_the_same_folder(tmp_path: Path) -> None:
    ledger = Ledger(make_search(parallel=1), tmp_path)
    ledger.assign(0)
    end(ledger, 0)
    assert Ledger(make_search(trials=12, parallel=4, max_failures=0, sampler="random"), tmp_path).remaining()[-1] == 11


@pytest.mark.parametrize(
    "other",
    [
        make_search(iterations=31),
        make_search(grace=5),
        make_search(students=2),
        make_search().model_copy(update={"seed": 8}),
    ],
)
def test_trials_of_another_search_are_refused(tmp_path: Path, other: Search) -> None:
    ledger = Ledger(make_search(parallel=1), tmp_path)
    ledger.assign(0)
    end(ledger, 0)
    with pytest.raises(ConfigError, match=r"trial 0 was run with other .*another name or --out"):
        Ledger(other, tmp_path)


def test_a_trial_that_ended_without_trace_is_an_error(tmp_path: Path) -> None:
    ledger = Ledger(make_search(), tmp_path)
    ledger.assign(0)
    with pytest.raises(ArtifactError, match=r"trial 0 ended but .* does not show it"):
        ledger.settle(0)
