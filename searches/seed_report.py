"""The seed report reproduced: its Tables I to XII and Figures 1 to 12 beside ours, on one page.

    raydistill run searches/seed_report.py --data-root DIR              every part whose data are there; then the page
    raydistill run searches/seed_report.py --data-root DIR --resume     goes on; parts, students and networks that are done stay
    raydistill run searches/seed_report.py --budget 180                 lengths lowered until the forecast fits
    raydistill run searches/seed_report.py --set evaluate.whole_epochs=50 --set nas.confirm_epochs=50    the report's, on a GPU
    raydistill run searches/seed_report.py:mnist_datadam                one part; :mnist_datadam_noise, :mnist_pad, …
    raydistill run searches/seed_report.py:mnist_datadam --resume --set 'evaluate.also.cross.networks=["VGG11","ResNet18"]'

The page is ``runs/seed_report/index.html`` (and ``report.md``); a cell that was not run says so, with its command. The
MNIST sets are distilled with the tuned settings of ``datadam_mnist.py`` and ``pad_mnist.py``, the MHIST sets with the
report's own. Run so far: mnist_datadam, mnist_datadam_noise and mnist_pad; the page is beside this file, seed_report/report.md.
"""

from pathlib import Path
from typing import Any

from raydistill import definitions
from raydistill.data.load import DataConfig
from raydistill.distill import datadam, pad
from raydistill.distill.method import MethodConfig
from raydistill.evaluate.protocol import EvaluateConfig, Further, protocol
from raydistill.models.fit import Recipe
from raydistill.nas.space import NASConfig
from raydistill.search.definition import Budget, Search
from raydistill.search.reproduction import Reproduction

HERE = Path(__file__).parent
BUDGET = Budget(cpus=1, final_cpus=2)
BATCH = {"ConvNetD3": 256, "ConvNetD7": 64}
"The field's; of 224×224 pixels no more, see ``mhist.py``."
WHOLE = {"ConvNetD3": (6, 2), "ConvNetD7": (50, 50)}
"""Epochs on all images, of the networks distilled with and of NAS's pick: MHIST's 2,000 images are few, and the report's length;
MNIST's 54,000 are shortened to what fits two cores."""


def evaluation(augment: str, network: str, beside: tuple[str, ...], labels: str, alone: bool) -> EvaluateConfig:
    """The ``field`` protocol, and the further tables of the page.

    Args:
        augment: DSA strategy.
        network: the one distilled with.
        beside: sets that share the tables: random images, or the same images with soft labels.
        labels: soft or hard, of the method.
        alone: whether networks are trained on all images too; the same for every part, so one part does it.
    """
    fast: dict[str, Any] = {"augment": augment, "precision": "bfloat16", "batch": BATCH[network]}
    long, short = protocol("field", **fast), protocol("seed", **fast)
    random = tuple(arm for arm in beside if arm == "random")
    whole: tuple[str, ...] = ("whole",) if alone else ()
    also = {
        # The report's own 50 epochs.
        "seed": Further(protocol=short, networks=(network, "AlexNet"), baselines=random, students=3),
        # AlexNet has no norm, and learns nothing for its first hundreds of steps: 600 small ones, not 500 on all images.
        "cross": Further(
            protocol=long.override({"name": "cross", "epochs": 150, "batch": 25}),
            networks=("AlexNet", "LeNet", "MLP") if network == "ConvNetD3" else ("AlexNet",),
            baselines=(*random, *whole),
            students=2,
            rates=(0.01, 0.03),
        ),
        # What augmentation brings, for DD-Ranking; without it a hundred images are known by heart long before a thousand epochs.
        "plain": Further(
            protocol=long.override({"name": "no augmentation", "augment": "none", "epochs": 300}),
            baselines=beside,
            students=1,
        ),
    }
    if labels == "soft":
        named = long.override({"name": "field, hard labels"})
        also["hard"] = Further(protocol=named, labels="hard", students=2)
    return EvaluateConfig(
        protocol=long, students=3, baselines=(*beside, *whole), whole_epochs=WHOLE[network][0], also=also
    )


def nas(augment: str, network: str) -> NASConfig:
    """The 22 networks after 50 epochs on the set; the best of them on all images."""
    short = protocol("seed", augment=augment, precision="bfloat16", batch=BATCH[network])
    return NASConfig(protocol=short, confirm_epochs=WHOLE[network][1])


def mnist(name: str, file: str, init: str, beside: tuple[str, ...], alone: bool = False) -> Search:
    """A tuned search on MNIST with the page's evaluation."""
    tuned = definitions.load(str(HERE / file))
    labels = getattr(tuned.distill, "labels", "hard")
    return Search(
        name=f"seed_report_{name}",
        data=tuned.data,
        distill=tuned.distill.override({"init": init}),
        budget=BUDGET,
        evaluate=evaluation("digits", "ConvNetD3", beside, labels, alone),
        nas=nas("digits", "ConvNetD3"),
    )


def mhist(name: str, distill: MethodConfig, beside: tuple[str, ...] = (), alone: bool = False) -> Search:
    """The report's settings on MHIST: ConvNetD7, fifty images a class."""
    labels = getattr(distill, "labels", "hard")
    return Search(
        name=f"seed_report_{name}",
        data=DataConfig(source="MHIST"),
        distill=distill,
        budget=BUDGET,
        evaluate=evaluation("natural", "ConvNetD7", beside, labels, alone),
        nas=nas("natural", "ConvNetD7"),
    )


PARTS = {
    "mnist_datadam": mnist("mnist_datadam", "datadam_mnist.py", "real", ("random",), alone=True),
    "mnist_datadam_noise": mnist("mnist_datadam_noise", "datadam_mnist.py", "noise", ()),
    "mnist_pad": mnist("mnist_pad", "pad_mnist.py", "real", ("initial",)),
    "mnist_pad_noise": mnist("mnist_pad_noise", "pad_mnist.py", "noise", ()),
}
# K = 200 networks, T = 10 passes.
common: dict[str, Any] = {"network": "ConvNetD7", "ipc": 50, "iterations": 2000, "augment": "natural"}
training = Recipe(momentum=0, weight_decay=0, augment="natural", batch=BATCH["ConvNetD7"])
dam = {**datadam.PRESETS["seed_report"], **common, "lr_img": 100, "batch_real": 128, "network_pool": 200}
pads = {**pad.PRESETS["seed_report"], **common}
pads["experts"] = pads["experts"].override(
    {"count": 200, "recipe.augment": "natural", "recipe.batch": BATCH["ConvNetD7"]}
)
dam["training"] = training
PARTS |= {
    "mhist_datadam": mhist("mhist_datadam", datadam.DataDAM.Config(**dam), ("random",), alone=True),
    "mhist_datadam_noise": mhist("mhist_datadam_noise", datadam.DataDAM.Config(**dam, init="noise")),
    "mhist_pad": mhist("mhist_pad", pad.PAD.Config(**pads)),
    "mhist_pad_noise": mhist("mhist_pad_noise", pad.PAD.Config(**{**pads, "lr_img": 10}, init="noise")),
}
search = Reproduction(name="seed_report", parts=PARTS)
