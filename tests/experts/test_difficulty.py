"""Difficulty scores against golden numbers; stored once, mended when damaged."""

from pathlib import Path

import numpy as np
import pytest
import torch

from raydistill.artifacts import TENSORS
from raydistill.experts.difficulty import DifficultyConfig, el2n, grand, mean_scores, score_item
from raydistill.models import build
from raydistill.models.fit import Recipe
from tests import formulas
from tests.distill import small
from tests.formulas import golden

GOLDEN = golden("curriculum")


@pytest.mark.parametrize("size", ["1x28x28", "3x32x32"])
def test_scores_equal_the_golden_ones(size: str) -> None:
    shape = formulas.shape_of(size)
    x = torch.from_numpy(formulas.images(7, (20, *shape))).double()
    labels = torch.from_numpy(GOLDEN[f"scores/{size}/labels"]).long()
    found = []
    for seed in range(3):
        net = build("ConvNetD3", shape, 10, 0)
        formulas.load_weights(net, seed)
        features = net.double().eval().features(x)
        assert np.allclose(
            features.logits.softmax(1).detach(), GOLDEN[f"scores/{size}/probabilities"][seed], atol=1e-10
        )
        found.append(el2n(features.logits, labels).detach().numpy())
        gradient = grand(features.logits, features.embedding, labels).detach()
        assert np.allclose(gradient, GOLDEN[f"scores/{size}/gradient_norm_last_layer"][seed], rtol=1e-9)
    assert np.allclose(found, GOLDEN[f"scores/{size}/el2n"], atol=1e-10)
    order = np.argsort(np.mean(found, 0), kind="stable")
    assert np.array_equal(order, GOLDEN[f"scores/{size}/order_easiest_first"])


def test_grand_is_the_last_layers_gradient() -> None:
    net = build("ConvNetD2", (1, 8, 8), 3, 0)
    x, labels = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    expected = []
    for i in range(4):
        loss = torch.nn.functional.cross_entropy(net(x[i : i + 1]), labels[i : i + 1])
        gradients = torch.autograd.grad(loss, list(net.classifier.parameters()))
        expected.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
    features = net.features(x)
    assert torch.allclose(grand(features.logits, features.embedding, labels), torch.tensor(expected), rtol=1e-5)


@pytest.mark.parametrize("score", ["el2n", "grand"])
def test_scores_are_stored_once_and_mended(tmp_path: Path, score: str) -> None:
    data = small.data()
    config = DifficultyConfig(score=score, networks=2, steps=3, recipe=Recipe(batch=8, augment="none"))
    places = {i: tmp_path / str(i) for i in range(2)}

    def go() -> torch.Tensor:
        for i, path in places.items():
            score_item(
                data=data, config=config, network="ConvNetD2", seed=0, index=i, directory=str(path), device="cpu"
            )
        return mean_scores(places.values())

    first = go()
    assert first.shape == (len(data.train),)
    assert bool((first > 0).all())
    written = (places[0] / TENSORS).stat().st_mtime_ns
    assert torch.equal(go(), first)
    assert (places[0] / TENSORS).stat().st_mtime_ns == written
    (places[1] / TENSORS).write_bytes(b"damaged")
    assert torch.equal(go(), first)
