"""The arms of the final table: who is trained on what, on equal terms, and in which order."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raydistill.data.distilled import DistilledSet
from raydistill.data.images import DeviceImages, ImageSet, Normaliser
from raydistill.data.load import TrainData
from raydistill.distill import initialise
from raydistill.evaluate import arms, students
from raydistill.evaluate.arms import Item, items, protocol_of, rate_item, real_set, sets_of, summary
from raydistill.evaluate.protocol import EvaluateConfig, Further, Protocol, protocol
from raydistill.evaluate.scores import interval
from tests.distill import small
from tests.distill.test_initialise import plain_herding, plain_kcenter
from tests.evaluate.test_students import a_set

TRAIN, TEST = small.images(36), small.images(30, stream=5)
DATA = TrainData(TRAIN, small.images(9, stream=1), Normaliser.fit(TRAIN.images))
CONFIG = EvaluateConfig(protocol=Protocol(epochs=3, batch=16), students=4, whole_epochs=2, whole_students=2)
SEED = 11


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(students, "build", lambda name, shape, classes, seed, device: small.network(name, seed))
    monkeypatch.setattr(initialise, "EMBED_STEPS", 3)


def test_items_are_every_student_of_every_arm_and_network() -> None:
    config = CONFIG.model_copy(update={"networks": ("ConvNetD1", "ConvNetW32")})
    found = items(config, "ConvNetD3")
    assert len(found) == len(set(found)) == 2 * (4 * 4 + 2)
    assert {item.network for item in found} == {"ConvNetD1", "ConvNetW32"}
    for network in ("ConvNetD1", "ConvNetW32"):
        for arm, count in {"distilled": 4, "random": 4, "herding": 4, "kcenter": 4, "whole": 2}.items():
            assert [i.student for i in found if (i.arm, i.network) == (arm, network)] == list(range(count))


def test_without_networks_and_baselines_it_is_the_distilled_set_on_its_network() -> None:
    config = EvaluateConfig(baselines=(), students=2)
    assert items(config, "ConvNetD3") == [Item("distilled", "ConvNetD3", 0), Item("distilled", "ConvNetD3", 1)]


def test_one_protocol_for_all_but_the_epochs_of_whole() -> None:
    for arm in ("distilled", "random", "herding", "kcenter"):
        assert protocol_of(arm, CONFIG) is CONFIG.protocol  # type: ignore[arg-type]
    whole = protocol_of("whole", CONFIG)
    assert whole.epochs == 2
    assert whole.model_copy(update={"epochs": 3}) == CONFIG.protocol


@pytest.mark.parametrize("selection", ["random", "herding", "kcenter"])
def test_a_real_set_is_of_real_images_of_the_right_class(selection: initialise.Selection) -> None:
    found = real_set(selection, DATA, 4, "digits", 0)
    assert found.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.classes == TRAIN.classes
    assert found.encoding == DATA.encoding
    known = {image.tobytes(): int(label) for image, label in zip(TRAIN.images, TRAIN.labels, strict=True)}
    chosen = [image.numpy().tobytes() for image in (found.pixels * 255).round().byte()]
    assert [known[c] for c in chosen] == found.labels.tolist()
    assert len(set(chosen)) == 12
    # As a network sees them they are what the real images are.
    real = DeviceImages(TRAIN, DATA.encoding)
    inputs = {image.numpy().tobytes() for image in real.take(torch.arange(36))}
    assert {image.numpy().tobytes() for image in found.inputs()} <= inputs
    again = real_set(selection, DATA, 4, "digits", 0)
    assert torch.equal(again.pixels, found.pixels)


@pytest.mark.parametrize(("selection", "plain"), [("herding", plain_herding), ("kcenter", plain_kcenter)])
def test_coresets_are_the_plain_ones_in_the_embedding(selection: initialise.Selection, plain: Any) -> None:
    real = DeviceImages(TRAIN, DATA.encoding)
    embed = initialise.embedder(real, "digits", 0)
    expected = []
    for members in TRAIN.by_class():
        rows = initialise.embeddings(real, torch.from_numpy(members), embed).double().numpy()
        expected += members[plain(rows, 3)].tolist()
    found = real_set(selection, DATA, 3, "digits", 0)
    assert np.array_equal((found.pixels * 255).round().byte().numpy(), TRAIN.images[expected])


def test_random_has_a_draw_for_each_student_and_the_others_one_set() -> None:
    sets = sets_of(CONFIG, a_set(), a_set(), DATA, SEED)
    assert {arm: len(found) for arm, found in sets.items()} == {"distilled": 1, "random": 4, "kcenter": 1, "herding": 1}
    assert all(len(s) == 6 for found in sets.values() for s in found)
    pixels = [s.pixels for s in sets["random"]]
    assert not any(torch.equal(pixels[i], pixels[j]) for i, j in ((0, 1), (0, 2), (1, 2), (2, 3)))
    asked = sets_of(CONFIG, a_set(), a_set(), DATA, SEED, {"random", "whole"})
    assert list(asked) == ["distilled", "random"]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(asked["random"], sets["random"], strict=True))
    again = sets_of(CONFIG, a_set(stream=8), a_set(), DATA, SEED)
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(again["random"], sets["random"], strict=True))


def test_a_stored_image_of_several_counts_as_one() -> None:
    sets = sets_of(CONFIG, a_set(factor=2), a_set(), DATA, SEED)
    assert (len(sets["distilled"][0]), len(sets["random"][0])) == (24, 6)


class Calls:
    """Notes on what each student was trained."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[Any, Protocol, int]] = []
        monkeypatch.setattr(arms, "train_student", self)

    def __call__(
        self, train: Any, shape: Any, classes: int, network: str, protocol: Protocol, seed: int, device: Any
    ) -> nn.Module:
        self.seen.append((train, protocol, seed))
        return small.network(network, seed)


def rated(sets: dict[str, list[DistilledSet]], arm: Any, student: int, test: ImageSet = TEST) -> dict[str, Any]:
    return rate_item(
        sets=sets, data=DATA, test=test, config=CONFIG, seed=SEED, arm=arm, network="ConvNetD3", student=student
    )


def test_equal_students_across_arms_and_a_random_draw_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = sets_of(CONFIG, a_set(), a_set(), DATA, SEED)
    calls = Calls(monkeypatch)
    seeds = {}
    for arm in ("distilled", "random", "herding", "kcenter", "whole"):
        calls.seen.clear()
        for student in range(4):
            rated(sets, arm, student)
        seeds[arm] = [seed for *_, seed in calls.seen]
        assert {p for _, p, _ in calls.seen} == {protocol_of(arm, CONFIG)}  # type: ignore[arg-type]
        trained_on = [train for train, *_ in calls.seen]
        if arm == "whole":
            assert all(len(t) == 36 for t in trained_on)
            continue
        for student, train in enumerate(trained_on):
            draw = sets[arm][student % len(sets[arm])]
            assert torch.equal(train.inputs, draw.inputs())
            assert torch.equal(train.labels, draw.targets())
    assert len(sets["random"]) == len({images.pixels.numpy().tobytes() for images in sets["random"]}) == 4
    assert len({tuple(s) for s in seeds.values()}) == 1
    assert len(set(seeds["whole"])) == 4


def test_a_search_rates_a_set_as_the_table_does() -> None:
    sets = {"distilled": [a_set(factor=2)]}
    table = [rated(sets, "distilled", student)["accuracy"] for student in range(3)]
    assert students.rate(sets["distilled"][0], TEST, "ConvNetD3", CONFIG.protocol, 3, SEED) == table


def test_a_student_without_numbers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = {"distilled": [a_set()]}
    assert "diverged" not in rated(sets, "distilled", 0)
    monkeypatch.setattr(arms, "train_student", lambda *args: small.network("ConvNetD3", 0).apply(_spoiled))
    found = rated(sets, "distilled", 0)
    assert (found["accuracy"], found["diverged"]) == (0, 1)


def _spoiled(module: torch.nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        torch.nn.init.constant_(parameter, float("nan"))


def test_an_item_is_the_same_wherever_and_whenever_it_runs() -> None:
    sets = {"distilled": [a_set()]}
    first = rated(sets, "distilled", 1)
    rated(sets, "distilled", 0)
    again = rated(sets, "distilled", 1)
    assert first["accuracy"] == again["accuracy"]
    assert first["seconds"] > 0
    assert set(first) == {"accuracy", "seconds"}


def test_whole_reads_the_training_part_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    rated({}, "whole", 0)
    train = calls.seen[0][0]
    assert np.array_equal(train.pixels.numpy(), TRAIN.images)


def test_two_classes_have_more_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    keep = np.flatnonzero(TEST.labels < 2)
    two = ImageSet(TEST.images[keep], TEST.labels[keep], ("left", "middle"))

    class Bars(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([x[..., 1:3].mean((1, 2, 3)), x[..., 3:5].mean((1, 2, 3))], 1)

    monkeypatch.setattr(arms, "train_student", lambda *_: Bars())
    result = rated({"distilled": [a_set()]}, "distilled", 0, two)
    assert (result["accuracy"], result["balanced_accuracy"], result["auc"]) == (1.0, 1.0, 1.0)
    assert (result["recall_0"], result["recall_1"], result["majority_rate"]) == (1.0, 1.0, 0.5)


def test_the_summary_by_hand() -> None:
    runs = [{"accuracy": a, "seconds": 2.0, "auc": a / 2} for a in (0.5, 0.6, 0.7)]
    found = summary(runs)
    assert found["accuracy_mean"] == pytest.approx(0.6)
    assert found["accuracy_std"] == pytest.approx(0.1)
    assert (found["ci95_low"], found["ci95_high"]) == interval([0.5, 0.6, 0.7])
    assert found["seconds"] == 6
    assert found["auc"] == pytest.approx(0.3)
    assert "balanced_accuracy" not in found


def test_one_student_has_no_interval() -> None:
    assert summary([{"accuracy": 0.5, "seconds": 1.0}]) == {"accuracy_mean": 0.5, "accuracy_std": 0.0, "seconds": 1.0}


def test_a_set_with_soft_labels_and_a_rate_of_its_own_is_trained_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = a_set()
    logits = torch.randn(len(plain.pixels), len(plain.classes), generator=torch.Generator().manual_seed(0))
    learned = DistilledSet(plain.pixels, plain.labels, plain.encoding, plain.classes, logits=logits, student_lr=0.03)
    config = CONFIG.model_copy(update={"baselines": ("initial", "random")})
    sets = sets_of(config, learned, plain, DATA, SEED)
    assert sets["initial"] == [plain]
    calls = Calls(monkeypatch)
    assert [rated(sets, arm, 0).get("lr") for arm in ("distilled", "initial", "random")] == [0.03, None, None]
    assert [protocol.lr for _, protocol, _ in calls.seen] == [0.03, CONFIG.protocol.lr, CONFIG.protocol.lr]
    assert torch.equal(calls.seen[0][0].labels, logits.softmax(1))
    assert torch.equal(calls.seen[1][0].labels, plain.labels)


def further(**changes: Any) -> EvaluateConfig:
    table = Further(**{"protocol": protocol("seed", epochs=2), "students": 2, **changes})
    return CONFIG.model_copy(update={"also": {"cross": table}})


def test_a_further_table_has_items_and_a_protocol_of_its_own() -> None:
    config = further(networks=("MLP",), baselines=("random", "whole"), rates=(0.01, 0.1))
    found = [item for item in items(config, "ConvNetD3") if item.table]
    assert {item.name for item in found} == {"distilled-MLP-cross", "random-MLP-cross", "whole-MLP-cross"}
    assert len(found) == 2 + 2 + 2
    assert protocol_of("random", config, "cross") is config.also["cross"].protocol
    assert protocol_of("whole", config, "cross").epochs == config.whole_epochs
    assert [arms.rates_of(item, config) for item in found] == [() if i.arm == "whole" else (0.01, 0.1) for i in found]
    assert arms.rates_of(Item("distilled", "MLP", 0), config) == ()
    assert Item("distilled", "MLP", 0).name == "distilled-MLP"


def test_further_students_have_the_chosen_rate_and_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = a_set()
    logits = torch.randn(len(plain.pixels), len(plain.classes), generator=torch.Generator().manual_seed(0))
    learned = DistilledSet(plain.pixels, plain.labels, plain.encoding, plain.classes, logits=logits, student_lr=0.03)
    calls = Calls(monkeypatch)
    shared: dict[str, Any] = {"sets": {"distilled": [learned]}, "data": DATA, "seed": SEED}
    student: dict[str, Any] = {"arm": "distilled", "network": "ConvNetD3", "table": "cross"}
    rate_item(**shared, **student, config=further(), test=TEST, student=0)
    rate_item(**shared, **student, config=further(labels="hard"), test=TEST, student=0)
    rate_item(**shared, **student, config=further(), test=TEST, student=0, lr=0.5)
    assert [protocol.lr for _, protocol, _ in calls.seen] == [0.03, 0.03, 0.5]
    targets = [train.labels for train, *_ in calls.seen]
    assert torch.equal(targets[0], logits.softmax(1))
    assert torch.equal(targets[1], plain.labels)
    calls.seen.clear()
    found = arms.try_rate(**shared, **student, config=further(), lr=0.2)
    assert (found["lr"], calls.seen[0][1].lr) == (0.2, 0.2)
    expected = students.judge(small.network("ConvNetD3", calls.seen[0][2]), DeviceImages(DATA.val, DATA.encoding))
    assert found["val_accuracy"] == expected.accuracy
