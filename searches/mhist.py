"""MHIST (Wei et al., AIME 2021): fifty images a class of 3×224×224, ConvNetD7, DataDAM and PAD, from real images and from noise.

    raydistill run searches/mhist.py --data-root DIR              DataDAM from real images; DIR holds MHIST/annotations.csv
    raydistill run searches/mhist.py:noise                        the same from noise
    raydistill experts searches/mhist.py:pad                      PAD's expert trajectories, into the shared cache
    raydistill run searches/mhist.py:pad                          PAD from real images
    raydistill run searches/mhist.py:pad_noise                    the same from noise
    raydistill run searches/mhist.py --set data.resolution=112 --set distill.network=ConvNetD6
    raydistill run searches/mhist.py --set data.min_agreement=6   without the training images that annotators argued about

Without a copy of MHIST (given out at https://bmirds.github.io/MHIST/ to those who sign its agreement), on generated tiles:

    raydistill data --generate-tiles DIR --train-images 600 --test-images 300 --side 56
    raydistill run searches/mhist.py:tiles --data-root DIR        DataDAM
    raydistill run searches/mhist.py:tiles_pad --data-root DIR    PAD

All of the first kind also run on generated tiles of 224×224 (`raydistill data --generate-tiles DIR`), and are then shown as such.
Two thirds of the images are of one class, so beside accuracy stand balanced accuracy, AUC, both recalls and the majority rate.
All settings are starting points: no accuracy has been measured with them. One DataDAM iteration at 224×224 (float32, a fresh
network, 128 real images a class; 24 November 2026, one core of an AMD EPYC beside other work) took 117 s of processor time and
2.8 GiB at its peak, data included.
"""

from typing import Any

from raydistill.data.load import DataConfig
from raydistill.distill.datadam import DataDAM
from raydistill.distill.method import MethodConfig
from raydistill.distill.pad import PAD
from raydistill.evaluate.protocol import EvaluateConfig, protocol
from raydistill.experts.curriculum import CurriculumConfig
from raydistill.experts.difficulty import DifficultyConfig
from raydistill.experts.trajectory import EXPERT, ExpertConfig
from raydistill.models.fit import Recipe
from raydistill.search.definition import Budget, Search

# Of 224×224 pixels, one map of 128 channels takes 26 MB an image in float32, and a step keeps several; hence no larger batch.
RECIPE = Recipe(batch=64, augment="histology", precision="bfloat16")
DATADAM: dict[str, Any] = {
    "power": 1,
    "loss_scale": 100,
    "lr_schedule": "cosine",
    "augment": "histology",
    "network_stages": (0, 10, 40),
    "training": RECIPE.override({"weight_decay": 0}),
    "precision": "bfloat16",
}
FULL = {"network": "ConvNetD7", "ipc": 50}
FULL_DATADAM = {**DATADAM, **FULL, "lr_img": 40, "iterations": 2000, "batch_real": 128, "network_pool": 198}
SMALL = {"network": "ConvNetD5", "ipc": 10}
EXPERT_RECIPE = EXPERT.override({"batch": 64, "augment": "histology", "precision": "bfloat16"})
EXPERTS = ExpertConfig(
    count=10,
    recipe=EXPERT_RECIPE,
    curriculum=CurriculumConfig.over(11),  # what matching reads, see MATCHING
    difficulty=DifficultyConfig(networks=2, recipe=EXPERT_RECIPE.override({"momentum": 0.9})),
)
MATCHING: dict[str, Any] = {
    "experts": EXPERTS,
    "iterations": 1000,
    "syn_steps": 10,
    "expert_epochs": 2,
    "max_start_epoch": 10,
    "alpha": 0.5,
    "lr_img": 100,
    "batch_syn": 20,
    "augment": "histology",
    "precision": "bfloat16",
}


def mhist(name: str, distill: MethodConfig, baselines: tuple[Any, ...] = ("random", "whole")) -> Search:
    """On MHIST, judged by the report's 50 epochs in batches that fit."""
    return Search(
        name=f"mhist{name}",
        data=DataConfig(source="MHIST"),
        distill=distill,
        budget=Budget(cpus=1, final_cpus=2),
        evaluate=EvaluateConfig(
            protocol=protocol("seed", **RECIPE.to_json()), students=5, baselines=baselines, whole_epochs=50
        ),
    )


def tiles_of(name: str, distill: MethodConfig) -> Search:
    """On a few generated tiles of 56×56, with a network as deep as they allow."""
    changes = {"name": f"tiles{name}", "evaluate.students": 3, "evaluate.whole_epochs": 20}
    return mhist("", distill).override({**changes, "data": DataConfig(source="generated tiles", resolution=56)})


search = mhist("", DataDAM.Config(**FULL_DATADAM))
noise = mhist("_noise", DataDAM.Config(**FULL_DATADAM, init="noise"))
pad = mhist("_pad", PAD.Config(**MATCHING, **FULL), ("initial", "random", "whole"))
pad_noise = mhist("_pad_noise", PAD.Config(**MATCHING, **FULL, init="noise"), ("random", "whole"))
tiles = tiles_of(
    "", DataDAM.Config(**DATADAM, **SMALL, lr_img=10, iterations=120, batch_real=32, network_pool=12, pool_draws=4)
)
tiles_pad = tiles_of(
    "_pad",
    PAD.Config(
        **{
            **MATCHING,
            **SMALL,
            "experts": EXPERTS.override({"count": 2, "curriculum": CurriculumConfig.over(5)}),
            "iterations": 30,
            "syn_steps": 5,
            "max_start_epoch": 4,
            "batch_syn": None,
        }
    ),
)
