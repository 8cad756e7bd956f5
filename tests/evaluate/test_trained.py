"""Stored networks: what comes back is what was saved, and what is deployed answers the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from raydistill.artifacts import TENSORS
from raydistill.data.images import Encoding, Normaliser
from raydistill.data.whiten import Whitener
from raydistill.errors import ArtifactError
from raydistill.evaluate import trained
from raydistill.models import GRID, build

SHAPE = (1, 28, 28)
PIXELS = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))
NORMALISER = Normaliser(mean=(0.3,), std=(0.4,))


def saved(path: Path, network: str, encoding: Encoding = NORMALISER, shape: tuple[int, int, int] = SHAPE) -> nn.Module:
    net = build(network, shape, 3, seed=1)
    net(torch.rand(8, *shape))  # batch norm's statistics are no longer those of a new network
    trained.save(path, net, encoding, {"network": network, "shape": list(shape), "classes": ["a", "b", "c"]})
    return net.eval()


@pytest.mark.parametrize("network", [*GRID, "AlexNet"])
def test_a_deployed_network_answers_as_the_trained_one(network: str, tmp_path: Path) -> None:
    net = saved(tmp_path / "net", network)
    found = trained.load(tmp_path / "net")
    with torch.inference_mode():
        expected = net(NORMALISER.encode(PIXELS))
        torch.testing.assert_close(found.net(found.encoding.encode(PIXELS)), expected)
        torch.testing.assert_close(trained.deployed(found)(PIXELS), expected, rtol=1e-4, atol=1e-5)


def test_whitening_is_inside_too(tmp_path: Path) -> None:
    shape = (1, 8, 8)
    whitener = Whitener.fit(np.random.default_rng(0).integers(0, 256, (90, *shape), dtype=np.uint8))
    net = saved(tmp_path / "net", "ConvNetD2", whitener, shape)
    pixels = torch.rand(3, *shape)
    with torch.inference_mode():
        expected = net(whitener.encode(pixels))
        torch.testing.assert_close(
            trained.deployed(trained.load(tmp_path / "net"))(pixels), expected, rtol=1e-4, atol=1e-5
        )


def test_damage_is_found(tmp_path: Path) -> None:
    saved(tmp_path / "net", "ConvNetD1")
    with pytest.raises(ArtifactError, match="no trained network"):
        trained.load(tmp_path / "other")
    file = tmp_path / "net" / TENSORS
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match="checksum"):
        trained.load(tmp_path / "net")


def test_a_network_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    net = build("ConvNetD1", SHAPE, 3, seed=1)
    trained.save(
        tmp_path / "net", net, NORMALISER, {"network": "ConvNetD2", "shape": [1, 28, 28], "classes": ["a", "b"]}
    )
    with pytest.raises(ArtifactError, match="no whole trained network"):
        trained.load(tmp_path / "net")
