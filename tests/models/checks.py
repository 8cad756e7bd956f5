"""What every network with golden numbers must show."""

import json

import numpy as np
import torch

from raydistill import models
from tests import formulas

STORED = formulas.golden("convnets")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 5e-5}


def stored_networks(convnets: bool) -> list[tuple[str, str]]:
    """(name, size) of the networks of one kind that have golden logits."""
    keys = sorted({tuple(key.split("/")[:2]) for key in STORED if key.endswith("/logits_eval")})
    return [(name, size) for name, size in keys if name.startswith("ConvNet") == convnets]


def check_against_golden(name: str, size: str, dtype: torch.dtype) -> None:
    """Parameter order, shapes and count; logits; for batch norm also train mode and what it leaves behind."""
    stored = {key.rsplit("/", 1)[1]: v for key, v in STORED.items() if key.startswith(f"{name}/{size}/")}
    shape = formulas.shape_of(size)
    network = models.build(name, shape, 10, seed=0).to(dtype)
    formulas.load_weights(network)
    expected = json.loads(str(stored["parameters_json"]))
    assert [list(p.shape) for p in network.parameters()] == [s for _, s in expected]
    assert sum(p.numel() for p in network.parameters()) == stored["parameter_count"]

    batch = len(stored["logits_eval"])
    x = torch.from_numpy(formulas.images(0, (batch, *shape))).to(dtype)

    def distance(key: str) -> float:
        with torch.no_grad():
            return float(np.abs(network(x).double().numpy() - stored[key]).max())

    network.eval()
    assert distance("logits_eval") <= TOLERANCE[dtype]
    network.train()
    assert distance("logits_train" if "logits_train" in stored else "logits_eval") <= TOLERANCE[dtype]
    if "logits_train" in stored:
        network.eval()
        assert distance("logits_eval_after_train_pass") <= TOLERANCE[dtype]


def check_features(network: models.Network, x: torch.Tensor, maps: int) -> models.Features:
    """``features`` agrees with ``forward``; its logits are the classifier of its embedding; maps are activations."""
    with torch.no_grad():
        found = network.features(x)
        assert torch.equal(found.logits, network(x))
        assert torch.equal(network.classifier(found.embedding), found.logits)
    assert len(found.maps) == maps
    assert all(m.ndim == 4 and len(m) == len(x) for m in found.maps)
    assert found.embedding.ndim == 2
    return found
