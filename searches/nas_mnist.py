"""Does a distilled set rank networks? The 22 ConvNets on MNIST, on four proxies, beside training on all images.

    raydistill run searches/nas_mnist.py --data-root DIR             distil with DataDAM, then rank the 22 on the set
    raydistill run searches/nas_mnist.py:study                       with random images, early stopping and all images beside it
    raydistill run searches/nas_mnist.py:sampled                     ConvNets drawn by Optuna instead of the grid
    raydistill nas searches/nas_mnist.py:study --resume              only the last stage, on the set of an earlier start
    raydistill run searches/nas_mnist.py --set nas.confirm_epochs=50 the winner at the report's full length

The report's protocol (50 epochs on 100 images); accuracies are of the validation split, the test images are read once for
the winner. `:study`, measured on 24 November 2026 (2 cores of an AMD EPYC beside other work, seed 0's set of
datadam_mnist.py, two seeds a network, one of 2 epochs on all images; 12,700 s of workers' time): Spearman with the order on
all images .75 (.37 to .94) on the set, .90 (.68 to .98) on random images, .76 (.42 to .89) with early stopping: the set's order
is not better. Picks: ConvNetW256 (98.78 % on all images; the best there, ConvNetMP, 98.95). More in the README.
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
