"""Does a distilled set rank networks? The 22 ConvNets on MNIST, on four proxies, beside training on all images.

    raydistill run searches/nas_mnist.py --data-root DIR             distil with DataDAM, then rank the 22 on the set
    raydistill run searches/nas_mnist.py:study                       with random images, early stopping and all images beside it
    raydistill run searches/nas_mnist.py:sampled                     ConvNets drawn by Optuna instead of the grid
    raydistill nas searches/nas_mnist.py:study --resume              only the last stage, on the set of an earlier start
    raydistill run searches/nas_mnist.py --set nas.confirm_epochs=50 the winner at the report's full length

The report's protocol (50 epochs on 100 images); accuracies are of the validation split, the test images are read once for
the winner. What was measured stands in the README, with date, hardware and seeds.
"""

from typing import Any

from raydistill.data.load import DataConfig
from raydistill.distill.datadam import DataDAM
from raydistill.evaluate.protocol import EvaluateConfig, protocol
from raydistill.models.fit import Recipe
from raydistill.nas.space import NASConfig, Sampling
from raydistill.search.definition import Budget, Search

DISTILL = DataDAM.Config(
    ipc=10,
    power=1,
    loss_scale=100,
    lr_img=4,
    lr_schedule="cosine",
    iterations=6000,
    batch_real=64,
    network_pool=48,
    network_stages=(0, 10, 40),
    training=Recipe(batch=64, momentum=0.9, weight_decay=0, precision="bfloat16"),
    pool_draws=8,
    precision="bfloat16",
)
PROTOCOL = protocol("seed", precision="bfloat16")


def mnist(name: str, **nas: Any) -> Search:
    """NAS on ten images a class of MNIST."""
    return Search(
        name=f"nas_mnist{name}",
        data=DataConfig(source="MNIST"),
        distill=DISTILL,
        budget=Budget(cpus=1, final_cpus=2),
        evaluate=EvaluateConfig(protocol=PROTOCOL, students=5, baselines=("random",)),
        nas=NASConfig(**{"protocol": PROTOCOL, "confirm_epochs": 10, **nas}),
    )


search = mnist("")
study = mnist("_study", students=3, baselines=("random", "early", "whole"), whole_epochs=3)
sampled = mnist("_sampled", sampled=Sampling(samples=64, parallel=4, startup=16))
