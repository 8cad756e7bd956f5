"""The NAS stage against the same 18 networks one after another: the report's protocol, 22 names, 50 epochs, 100 images.

    python tests/benchmarks/bench_nas.py SET [--data-root DIR] [--rounds 1]

SET is a distilled set of 28×28 images. One after another: the textbook's loop and layers in float32, all cores for each
network, default allocator; each network is judged on the validation images, as in the stage. The stage: ``run_nas`` on Ray
with bfloat16 training, one core a network, from the call that starts Ray to the last unit on the disk, imports aside.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from bench_datadam import plain_augment
from pairs import Worker, serve
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from raydistill import results
from raydistill.data import augment
from raydistill.data.distilled import DistilledSet
from raydistill.data.images import DeviceImages
from raydistill.data.load import DataConfig, TrainData, load_train
from raydistill.distill.datadam import DataDAM
from raydistill.evaluate.protocol import protocol
from raydistill.models import GRID, build
from raydistill.models.convnet import LEAKY_SLOPE
from raydistill.nas import rank, summary
from raydistill.nas.space import NASConfig
from raydistill.nas_stage import run_nas
from raydistill.runtime.base import worker_environment
from raydistill.runtime.on_ray import connect
from raydistill.search.definition import Search
from raydistill.seeding import torch_generator
from raydistill.track import Progress

ACTIVATIONS = {
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "leakyrelu": lambda x: F.leaky_relu(x, LEAKY_SLOPE),
    "swish": F.silu,
}
POOLINGS = {"avg": lambda x: F.avg_pool2d(x, 2), "max": lambda x: F.max_pool2d(x, 2), "none": lambda x: x}
PROTOCOL = protocol("seed", precision="bfloat16")


class Textbook(nn.Module):
    """A network of the grid, none of its layers in the form that makes it fast here."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        config = self.net.config
        for conv, norm in self.net.blocks:
            x = ACTIVATIONS[config.activation](norm(F.conv2d(x, conv.weight, conv.bias, padding=conv.padding)))
            x = POOLINGS[config.pooling](x)
        return self.net.classifier(x.flatten(1))


def one_after_another(data: TrainData, images: DistilledSet) -> None:
    """Train and judge each network."""
    train = TensorDataset(images.inputs(), images.targets())
    val = DeviceImages(data.val, images.encoding)
    shape = data.train.shape
    for name in rank.distinct(GRID):
        generator = torch_generator(0, "plain", name)
        net = Textbook(build(name, shape, 10, 0)).train()
        optimiser = torch.optim.SGD(
            net.parameters(), PROTOCOL.lr, PROTOCOL.momentum, weight_decay=PROTOCOL.weight_decay
        )
        loader = DataLoader(train, batch_size=PROTOCOL.batch, shuffle=True, generator=generator)
        for _ in PROTOCOL.rates():
            for x, y in loader:
                drawn = augment.draw("digits", len(x), shape[1:], generator, shared=True)
                loss = F.cross_entropy(net(plain_augment(x, drawn)), y)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        net.eval()
        with torch.inference_mode():
            for chosen in torch.arange(len(val)).split(250):
                net(val.take(chosen))


def stage(data: TrainData, images: DistilledSet) -> tuple[float, str]:
    """Seconds, and the best network."""
    search = Search(
        name="bench_nas",
        data=DataConfig(source="MNIST"),
        distill=DataDAM.Config(),
        nas=NASConfig(protocol=PROTOCOL, confirm=0),
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / search.name
        results.open_run(search, run, resume=False)
        started = time.perf_counter()
        runtime = connect("local", environment=worker_environment())
        try:
            run_nas(search, run, data, images, runtime, Progress(quiet=True))
            seconds = time.perf_counter() - started
        finally:
            runtime.close()
        found = summary.rated(run, "distilled")
        return seconds, f"{len(found)} networks, best {found[0].network} {100 * found[0].accuracy:.2f} %"


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path, nargs="?")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    path, root = (given.set, given.data_root) if given.set else map(Path, given.worker.split("::"))
    data, images = load_train(DataConfig(source="MNIST"), root), DistilledSet.load(path)
    if given.worker:
        serve(lambda: one_after_another(data, images))
        return
    for _ in range(given.rounds):
        plain = Worker(__file__, f"{path}::{root}", {})
        plain_seconds = plain.once()
        plain.close()
        seconds, found = stage(data, images)
        print(
            f"one after another {plain_seconds:.0f} s, the stage {seconds:.0f} s: {plain_seconds / seconds:.2f} x; {found}"
        )


if __name__ == "__main__":
    sys.exit(main())
