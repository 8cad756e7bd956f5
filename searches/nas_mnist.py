"""Does a distilled set rank networks? The 22 ConvNets on MNIST, on four proxies, beside training on all images.

    raydistill run searches/nas_mnist.py --data-root DIR             distil with DataDAM, then rank the 22 on the set
    raydistill run searches/nas_mnist.py:study                       with random images, early stopping and all images beside it
    raydistill run searches/nas_mnist.py:sampled                     ConvNets drawn by Optuna instead of the grid
    raydistill nas searches/nas_mnist.py:study --resume              only the last stage, on the set of an earlier start
    raydistill run searches/nas_mnist.py --set nas.confirm_epochs=50 the winner at the report's full length

The report's protocol (50 epochs on 100 images); accuracies are of the validation split, the test images are read once for
the winner. What was measured stands in the README, with date, hardware and seeds.
"""

from pathlib import Path
from typing import Any

from raydistill import definitions
from raydistill.data.load import DataConfig
from raydistill.evaluate.protocol import EvaluateConfig, protocol
from raydistill.nas.space import NASConfig, Sampling
from raydistill.search.definition import Budget, Search

DISTILL = definitions.load(str(Path(__file__).with_name("datadam_mnist.py"))).distill
PROTOCOL = protocol("seed", precision="bfloat16")


def mnist(name: str, **nas: Any) -> Search:
    """NAS on ten images a class of MNIST, distilled with the settings of datadam_mnist.py."""
    return Search(
        name=f"nas_mnist{name}",
        data=DataConfig(source="MNIST"),
        distill=DISTILL,
        budget=Budget(cpus=1, final_cpus=2),
        evaluate=EvaluateConfig(protocol=PROTOCOL, students=5, baselines=("random",)),
        nas=NASConfig(**{"protocol": PROTOCOL, "confirm_epochs": 10, **nas}),
    )


search = mnist("")
study = mnist(
    "_study",
    students=2,
    baselines=("random", "early", "whole"),
    whole_epochs=2,
    whole_students=1,
    confirm_epochs=2,
    workers=2,
)
sampled = mnist("_sampled", sampled=Sampling(samples=64, parallel=4, startup=16))
