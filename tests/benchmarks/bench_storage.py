"""What half precision storage of expert trajectories does to the matching loss, on real MNIST.

    python tests/benchmarks/bench_storage.py DATA_ROOT [EPOCHS] [STEPS]

Trains one expert (ConvNetD3; ``EPOCHS`` epochs of ``STEPS`` steps), rounds its snapshots to each storage, and matches ten random
real images a class from every start epoch: N = 10 student steps, M = 1, α = 0.25 by depth. Printed for each start epoch: the
loss, and for each storage its relative change, the cosine of the image gradient with that of float32, and the norms' ratio.
"""

import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F

from raydistill.data.images import DeviceImages
from raydistill.data.load import DataConfig, load_train
from raydistill.distill.initialise import initial_images
from raydistill.distill.unroll import Matched, Problem, Step, drop_shallow, matching
from raydistill.experts.trajectory import EXPERT, ExpertConfig, Place, Trajectory, train_item
from raydistill.models import build
from raydistill.models.flat import Layout, call

IPC, SYN_STEPS, ALPHA, RATE = 10, 10, 0.25, 0.02
STORAGES = (torch.float16, torch.bfloat16)


def main(root: Path, epochs: int, steps: int) -> None:
    """Train, round, match, print."""
    data = load_train(DataConfig(source="MNIST"), root)
    config = ExpertConfig(
        count=1, epoch_steps=steps, recipe=EXPERT.override({"lr": RATE, "batch": 128, "precision": "bfloat16"})
    )
    with tempfile.TemporaryDirectory() as folder:
        train_item(data=data, config=config, network="ConvNetD3", epochs=epochs, root=folder, index=0, device="cpu")
        trajectory = Trajectory(Place(Path(folder)).trajectory(0))
        vectors = [trajectory.snapshot(epoch) for epoch in range(epochs + 1)]
    print("accuracies", " ".join(f"{100 * one:.1f}" for one in trajectory.manifest["accuracies"]))
    real = DeviceImages(data.train, data.encoding)
    net = build("ConvNetD3", real.shape, 10, 0).requires_grad_(False)
    layout, images = Layout.of(net), initial_images("real", real, IPC, 1, 0, None)
    labels = 5.0 * F.one_hot(torch.arange(10).repeat_interleave(IPC), 10).float()

    def match(start: torch.Tensor, target: torch.Tensor) -> Matched:
        given = Problem(
            logits=lambda theta, x: call(net, layout, theta, x),
            images=images,
            labels=labels,
            rate=torch.tensor(RATE),
            start=start,
            target=target,
            steps=[Step(torch.arange(len(images)), None)] * SYN_STEPS,
            keep=drop_shallow(ALPHA),
        )
        return matching(given)

    for epoch in range(epochs):
        exact = match(vectors[epoch], vectors[epoch + 1])
        print(f"start epoch {epoch}: loss {float(exact.loss):.5f}")
        for storage in STORAGES:
            found = match(*(vectors[e].to(storage).float() for e in (epoch, epoch + 1)))
            cosine = F.cosine_similarity(found.images.flatten(), exact.images.flatten(), dim=0)
            ratio = found.images.norm() / exact.images.norm()
            change = float(found.loss / exact.loss) - 1
            print(
                f"    {str(storage).removeprefix('torch.'):<9} loss {change:+.1e}  cosine {cosine:.6f}  norm {ratio:.4f}"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, (*sys.argv[2:4], *("3", "20")[len(sys.argv) - 2 :])))
