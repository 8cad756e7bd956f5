"""PAD on MNIST (Li et al., arXiv 2408.03360): ten images a class, ConvNetD3, from real images and from noise.

    raydistill experts searches/pad_mnist.py --data-root DIR        only the expert trajectories, into the shared cache
    raydistill run searches/pad_mnist.py --data-root DIR            tuned settings, soft labels, from real images
    raydistill run searches/pad_mnist.py:noise                      the same from noise
    raydistill run searches/pad_mnist.py:hard                       hard labels
    raydistill run searches/pad_mnist.py:tune                       search the settings with Optuna on Ray Tune
    raydistill run searches/pad_mnist.py:datm                       without curriculum and filter (DATM)
    raydistill run searches/pad_mnist.py:mtt                        and with hard labels (MTT)
    raydistill run searches/pad_mnist.py:seed_report                the report's settings, judged by its own 50 epochs

MNIST is learned within one pass, so an expert's epoch here is 40 steps, not a pass. Measured on 27 November 2026 (seed 0, 2 cores
of an AMD EPYC (Zen 5), ``field``): experts in 5.5 minutes; 500 iterations from real images, 34 minutes of one core, 97.80 ± 0.06
with soft labels and 97.72 ± 0.13 % with hard ones in their place. More in the README.
"""

from typing import Any

from raydistill.data.load import DataConfig
from raydistill.distill.pad import PAD, PRESETS
from raydistill.evaluate.protocol import EvaluateConfig, protocol
from raydistill.experts.curriculum import CurriculumConfig
from raydistill.experts.difficulty import DifficultyConfig
from raydistill.experts.trajectory import EXPERT, ExpertConfig
from raydistill.search.definition import Budget, Choice, Float, Int, Search

RECIPE = EXPERT.override({"lr": 0.02, "batch": 128, "precision": "bfloat16"})
EXPERTS = ExpertConfig(
    count=8,
    epoch_steps=40,
    recipe=RECIPE,
    # Matching reads to epoch 12: all images are there from epoch 4, the easiest go after 6 and after 8.
    curriculum=CurriculumConfig(add_end_epoch=4, rm_epoch_first=6, rm_epoch_second=8),
    difficulty=DifficultyConfig(networks=2, steps=60, recipe=RECIPE.override({"momentum": 0.9})),
)
TUNED: dict[str, Any] = {
    "experts": EXPERTS,
    "iterations": 500,
    # Steps on a fifth of the images lead further than a fifth as many on all of them, for the same work.
    "syn_steps": 50,
    "batch_syn": 20,
    "expert_epochs": 2,
    "current_max_start_epoch": 6,
    "max_start_epoch": 11,
    "expansion_end": 300,
    "alpha": 0.25,
    "lr_img": 1000,
    "lr_schedule": "cosine",
    "syn_lr": 0.015,
    "lr_lr": 1e-5,
    "lr_y": 1,
    # A fifth faster than `adjoint`, for a process of 2 GB.
    "gradient": "full",
    "precision": "bfloat16",
}
FIELD = EvaluateConfig(protocol=protocol("field", precision="bfloat16"), students=5, baselines=("initial", "random"))
SEED = EvaluateConfig(protocol=protocol("seed"), students=5, baselines=("random",))
BUDGET = Budget(trials=12, parallel=2, grace=40, reduction=3, cpus=1, final_cpus=2, validation=protocol("fast"))


def mnist(name: str, settings: dict[str, Any], evaluate: EvaluateConfig = FIELD, **more: Any) -> Search:
    """A search on MNIST with ten images a class."""
    return Search(
        name=f"pad_mnist{name}",
        data=DataConfig(source="MNIST"),
        distill=PAD.Config(ipc=10, **settings),
        budget=BUDGET,
        evaluate=evaluate,
        **more,
    )


search = mnist("", TUNED)
noise = mnist("_noise", {**TUNED, "init": "noise"})
hard = mnist("_hard", {**TUNED, "labels": "hard"})
datm = mnist(
    "_datm",
    {
        **TUNED,
        **PRESETS["datm"],
        "experts": EXPERTS.override({"curriculum": None}),
    },
)
mtt = mnist("_mtt", {**TUNED, **PRESETS["mtt"], "experts": EXPERTS.override({"curriculum": None})})
seed_report = mnist("_seed_report", PRESETS["seed_report"], SEED)
seed_report_noise = mnist("_seed_report_noise", {**PRESETS["seed_report"], "init": "noise"}, SEED)
tune = mnist(
    "_tune",
    {**TUNED, "iterations": 120, "expansion_end": None},
    space={
        "distill.alpha": Float(low=0, high=0.75),
        "distill.lr_img": Float(low=10, high=1000, log=True),
        "distill.syn_lr": Float(low=0.005, high=0.1, log=True),
        "distill.lr_y": Float(low=0.3, high=30, log=True),
        "distill.expert_epochs": Int(low=1, high=3),
        "distill.max_start_epoch": Int(low=6, high=16),
        "distill.threshold": Choice(values=(1.0, 1.1)),
    },
    final={"distill.iterations": TUNED["iterations"]},
)
