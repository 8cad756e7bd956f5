"""DataDAM on MNIST (Sajedi et al., ICCV 2023): ten images a class, ConvNetD3, from real images and from noise.

    raydistill run searches/datadam_mnist.py --data-root DIR            tuned settings, from real images
    raydistill run searches/datadam_mnist.py:noise                      the same from noise
    raydistill run searches/datadam_mnist.py:multiformation             four smaller images in the place of each (IDC's factor 2)
    raydistill run searches/datadam_mnist.py:multiformation_noise       the same from noise
    raydistill run searches/datadam_mnist.py:tune                       search the settings with Optuna on Ray Tune
    raydistill run searches/datadam_mnist.py:paper                      the paper's settings
    raydistill run searches/datadam_mnist.py:code                       the released code's
    raydistill run searches/datadam_mnist.py:seed_report                the report's, judged by its own 50 epochs
    raydistill run searches/datadam_mnist.py:seed_report_noise          the same from noise

The measured results stand in the README, with date, hardware and seeds.
"""

from typing import Any

from raydistill.data.load import DataConfig
from raydistill.distill.datadam import PRESETS, DataDAM
from raydistill.evaluate.protocol import EvaluateConfig, protocol
from raydistill.models.fit import Recipe
from raydistill.search.definition import Budget, Float, Search

TUNED: dict[str, Any] = {
    "power": 1,
    "loss_scale": 100,
    "lr_img": 8,
    "lr_schedule": "cosine",
    "iterations": 12000,
    "batch_real": 64,
    "network_pool": 192,
    "network_stages": (0, 10, 40),
    "training": Recipe(batch=64, momentum=0.9, weight_decay=0, precision="bfloat16"),
    "pool_draws": 4,
    "precision": "bfloat16",
}
FIELD = EvaluateConfig(
    protocol=protocol("field", precision="bfloat16"),
    students=5,
    baselines=("random", "kcenter", "herding"),
)
SEED = EvaluateConfig(protocol=protocol("seed"), students=5, baselines=("random",))
BUDGET = Budget(trials=16, parallel=2, grace=300, reduction=3, cpus=1, final_cpus=2, validation=protocol("fast"))


def mnist(name: str, settings: dict[str, Any], evaluate: EvaluateConfig = FIELD, **more: Any) -> Search:
    """A search on MNIST with ten images a class."""
    distill = DataDAM.Config(ipc=10, **settings)
    return Search(
        name=f"datadam_mnist{name}",
        data=DataConfig(source="MNIST"),
        distill=distill,
        budget=BUDGET,
        evaluate=evaluate,
        **more,
    )


search = mnist("", TUNED)
noise = mnist("_noise", {**TUNED, "init": "noise"})
# The same storage holds 40 images of half the side a class; an iteration takes nearly four times as long, and fewer do.
PARTS = {**TUNED, "factor": 2, "iterations": 4000}
WITH_START = FIELD.model_copy(update={"baselines": ("initial", *FIELD.baselines)})
multiformation = mnist("_multiformation", PARTS, WITH_START)
multiformation_noise = mnist("_multiformation_noise", {**PARTS, "init": "noise"})
paper = mnist("_paper", PRESETS["paper"])
code = mnist("_code", PRESETS["code"])
seed_report = mnist("_seed_report", PRESETS["seed_report"], SEED)
seed_report_noise = mnist("_seed_report_noise", {**PRESETS["seed_report"], "init": "noise"}, SEED)

# Only lr_img is searched of the product lr_img·loss_scale, which is all that plain SGD knows of the two.
tune = mnist(
    "_tune",
    {**TUNED, "iterations": 1200},
    space={
        "distill.lr_img": Float(low=0.3, high=10, log=True),
        "distill.task_balance": Float(low=0.001, high=0.3, log=True),
        "distill.momentum": Float(low=0.0, high=0.9),
    },
    final={"distill.iterations": TUNED["iterations"]},
)
