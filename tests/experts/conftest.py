"""Small networks, so that experts are trained in a moment."""

import pytest

from raydistill.experts import trajectory
from tests.distill import small


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trajectories of networks with a few channels."""
    monkeypatch.setattr(trajectory, "build", lambda name, shape, classes, seed, device: small.network(name, seed))
