"""Names to implementations: literal tables, resolved on first use, so that importing one thing loads only it."""

import importlib
from typing import Any

from raydistill.errors import UnknownNameError

METHODS = {
    "DataDAM": "raydistill.distill.datadam:DataDAM",
    "PAD": "raydistill.distill.pad:PAD",
}

SOURCES = {
    "digits": "raydistill.data.sources:Digits",
    "MNIST": "raydistill.data.sources:MNIST",
    "FashionMNIST": "raydistill.data.sources:FashionMNIST",
    "KMNIST": "raydistill.data.sources:KMNIST",
    "CIFAR10": "raydistill.data.sources:CIFAR10",
    "CIFAR100": "raydistill.data.sources:CIFAR100",
    "SVHN": "raydistill.data.sources:SVHN",
    "MHIST": "raydistill.data.mhist:MHIST",
    "generated tiles": "raydistill.data.mhist:GeneratedTiles",
    "folder": "raydistill.data.folder:ImageFolder",
}

TABLES = {"method": METHODS, "data source": SOURCES}


def resolve(kind: str, name: str) -> Any:
    """The object behind ``name`` in the table ``kind``.

    Raises:
        UnknownNameError: with the nearest known names.
    """
    table = TABLES[kind]
    if name not in table:
        raise UnknownNameError(kind, name, table)
    module, attribute = table[name].split(":")
    return getattr(importlib.import_module(module), attribute)
