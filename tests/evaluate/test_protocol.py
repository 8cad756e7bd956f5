"""The evaluation protocol against the official one: rates, passes, steps, and a whole short training."""

import numpy as np
import pytest
import torch

from raydistill.errors import ConfigError, UnknownNameError
from raydistill.evaluate import students
from raydistill.evaluate.protocol import PROTOCOLS, EvaluateConfig, Further, Protocol, protocol
from raydistill.models.fit import EncodedImages, Fit
from tests import formulas
from tests.models.test_fit import flat, short_training, small_net

STORED = formulas.golden("evaluate")
SCHEDULES = [(release, epochs) for release in ("datadam", "pad") for epochs in (1000, 1800, 50)]


@pytest.mark.parametrize(("release", "epochs"), SCHEDULES)
def test_golden_rates(release: str, epochs: int) -> None:
    prefix = f"{release}/epochs_{epochs}"
    rates = Protocol(epochs=epochs).rates()
    assert len(rates) == int(STORED[f"{prefix}/epochs_run"])
    assert np.abs(np.array(rates) - STORED[f"{prefix}/learning_rate_per_epoch"]).max() <= 1e-12
    assert rates.count(rates[0]) == int(STORED[f"{prefix}/last_epoch_at_first_rate"]) + 1


@pytest.mark.parametrize(("release", "epochs"), SCHEDULES)
def test_golden_steps(release: str, epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    key = next(k for k in STORED if k.endswith("images_in_set"))
    taken: list[int] = []
    monkeypatch.setattr(Fit, "run", lambda self, steps: taken.append(steps) or 0.0)
    counts = []
    for images in STORED[key].tolist():
        taken.clear()
        train = EncodedImages(torch.zeros(images, 1, 8, 8), torch.zeros(images, dtype=torch.int64))
        chosen = Protocol(epochs=epochs, batch=int(STORED[f"{release}/batch"]))
        students.train_student(train, (1, 8, 8), 3, "ConvNetW32", chosen, seed=0)
        counts.append(sum(taken))
    assert counts == STORED[f"{release}/epochs_{epochs}/steps"].tolist()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 5e-6)])
@pytest.mark.parametrize("release", ["datadam", "pad"])
def test_golden_student(release: str, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = short_training(release, dtype)
    monkeypatch.setattr(students, "build", lambda *_: net)
    chosen = Protocol(epochs=8, batch=int(STORED[f"{release}/batch"]), augment="none")
    trained = students.train_student(data, (1, 28, 28), 3, "ConvNetD2", chosen, seed=0)
    expected = STORED[f"{release}/short_training/parameters"][-1]
    assert np.abs(flat(trained).double().numpy() - expected).max() <= tolerance


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_few_epochs(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Protocol(epochs=epochs, lr=0.5).rates()
    assert len(rates) == epochs + 1
    assert rates == sorted(rates, reverse=True)
    set_to: list[float] = []
    monkeypatch.setattr(Fit, "set_rate", _noted(set_to))
    monkeypatch.setattr(students, "build", lambda *_: small_net())
    data = EncodedImages(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))
    students.train_student(data, (1, 8, 8), 3, "", Protocol(epochs=epochs, lr=0.5), seed=0)
    assert set_to == list(dict.fromkeys(rates))


def _noted(rates: list[float]):  # type: ignore[no-untyped-def]
    original = Fit.set_rate

    def set_rate(self: Fit, lr: float) -> None:
        rates.append(lr)
        original(self, lr)

    return set_rate


def test_named_protocols() -> None:
    assert {name: protocol(name).epochs for name in PROTOCOLS} == {"seed": 50, "field": 1000, "fast": 200}
    assert protocol("field").name == "field"
    assert protocol("seed", epochs=3).epochs == 3
    with pytest.raises(UnknownNameError, match="did you mean field"):
        protocol("fields")
    with pytest.raises(ConfigError, match="epochs=0"):
        protocol("seed", epochs=0)


def test_the_defaults_are_the_fields() -> None:
    config = EvaluateConfig()
    assert (config.protocol.name, config.students) == ("field", 5)
    assert (config.protocol.lr, config.protocol.momentum, config.protocol.weight_decay) == (0.01, 0.9, 5e-4)


def test_tables_are_told_apart_by_their_protocols_names() -> None:
    with pytest.raises(ConfigError, match=r"also.cross.protocol.name='field': another table"):
        EvaluateConfig(also={"cross": Further()})
    with pytest.raises(ConfigError, match="'a b' cannot name a table"):
        EvaluateConfig(also={"a b": Further(protocol=protocol("seed"))})
    with pytest.raises(ConfigError, match=r"rates=\(0.1, 0.1\): learning rates must be above 0"):
        Further(rates=(0.1, 0.1))


def test_what_all_tables_need() -> None:
    further = Further(protocol=protocol("seed"), networks=("AlexNet", "MLP"), baselines=("random", "initial"))
    config = EvaluateConfig(networks=("MLP",), baselines=("kcenter", "random"), also={"cross": further})
    assert config.arms == ("kcenter", "random", "initial")
    assert config.every_network == ("MLP", "AlexNet")
    changed = config.override({"also.cross.networks": '["LeNet"]'})
    assert changed.also["cross"].networks == ("LeNet",)
