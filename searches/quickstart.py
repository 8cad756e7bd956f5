"""Handwritten digits in a few minutes: the whole path on real images, without a network or a GPU.

    raydistill run searches/quickstart.py
    raydistill run searches/quickstart.py:nas      more networks, and whether their order is that on all images

scikit-learn's 1,797 digits (8×8) are distilled to ten images a class with DataDAM (Sajedi et al., ICCV 2023); eight
settings are tried with Optuna on Ray Tune, poor ones stopped early; the best set is rated beside random real images, a
k-center choice and the whole set, and six networks are ranked on it.
"""

from raydistill.data.load import DataConfig
from raydistill.distill.datadam import DataDAM
from raydistill.evaluate.protocol import EvaluateConfig, protocol
from raydistill.models.fit import Recipe
from raydistill.nas.space import NASConfig
from raydistill.search.definition import Budget, Float, Int, Search

search = Search(
    name="quickstart",
    data=DataConfig(source="digits", val_fraction=0.2),
    distill=DataDAM.Config(
        network="ConvNet-D2-W64",  # a third block would normalise maps of 2×2 pixels, which no small step can follow
        ipc=10,
        iterations=81,
        power=1,
        loss_scale=100,
        lr_img=2,
        augment="none",  # 8×8 pixels have no room for crops and cutouts
        network_pool=12,
        network_stages=(0, 10, 40),
        training=Recipe(batch=64, momentum=0.9, weight_decay=0, augment="none"),
        pool_draws=4,
    ),
    space={
        "distill.lr_img": Float(low=0.3, high=6, log=True),
        "distill.task_balance": Float(low=0.003, high=0.3, log=True),
        "distill.momentum": Float(low=0.0, high=0.9),
        "distill.pool_draws": Int(low=1, high=8),
    },
    budget=Budget(trials=8, parallel=2, grace=27, reduction=3, startup=5, validation=protocol("fast", augment="none")),
    evaluate=EvaluateConfig(
        protocol=protocol("fast", augment="none"),
        students=5,
        baselines=("random", "kcenter", "whole"),
        whole_epochs=60,
        whole_students=1,
    ),
    nas=NASConfig(
        networks=("ConvNetD1", "ConvNetD2", "ConvNetD3", "ConvNetW32", "ConvNetBN", "ConvNetMP"),
        protocol=protocol("seed", augment="none"),
        confirm=0,
    ),
)

nas = search.override(
    {
        "name": "quickstart_nas",
        "space": {},
        "nas": NASConfig(
            protocol=protocol("seed", augment="none"),
            students=2,
            baselines=("random", "early", "whole"),
            whole_epochs=20,
            confirm_epochs=60,
        ),
    }
)
