"""The shared Ray cluster as a fixture."""

import pytest

from raydistill.runtime.on_ray import OnRay
from tests.runtime.cluster import cluster


@pytest.fixture
def on_ray() -> OnRay:
    """The session's Ray cluster."""
    return cluster()
