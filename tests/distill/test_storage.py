"""What half precision storage of trajectories does to the matching loss and the image gradient: a small trained network."""

import pytest
import torch
import torch.nn.functional as F

from raydistill.distill.unroll import Matched, matching
from tests.distill import small


def matched(storage: torch.dtype, epoch: int) -> Matched:
    """From ``epoch`` two epochs on, both snapshots rounded as they would be stored."""
    method = small.pad(init="real")
    given = method._problem(0, small.experts()[0], epoch)
    rounded = {"start": given.start.to(storage).float(), "target": given.target.to(storage).float()}
    return matching(given._replace(**rounded))


@pytest.mark.parametrize("epoch", [0, 2])
@pytest.mark.parametrize(("storage", "bound"), [(torch.float16, 3e-3), (torch.bfloat16, 1e-2)])
def test_half_precision_keeps_loss_and_gradient_near(storage: torch.dtype, bound: float, epoch: int) -> None:
    exact, found = matched(torch.float32, epoch), matched(storage, epoch)
    assert not torch.equal(exact.loss, found.loss)
    assert float(found.loss) == pytest.approx(float(exact.loss), rel=bound)
    cosine = F.cosine_similarity(exact.images.flatten(), found.images.flatten(), dim=0)
    assert 1 - float(cosine) < bound
    assert float(found.images.norm()) == pytest.approx(float(exact.images.norm()), rel=10 * bound)
