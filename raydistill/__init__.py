"""raydistill: a distributed search engine for dataset distillation.

``DistilledSet.load(path)`` reads a result; ``raydistill --help`` makes one.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raydistill.data.distilled import DistilledSet as DistilledSet
    from raydistill.search.definition import Search as Search

_NAMES = {"DistilledSet": "raydistill.data.distilled", "Search": "raydistill.search.definition"}

__all__ = ["DistilledSet", "Search"]


def __getattr__(name: str) -> Any:
    """The public names, imported on first use so that ``import raydistill`` costs nothing."""
    if name not in _NAMES:
        raise AttributeError(f"module 'raydistill' has no attribute {name!r}")
    return getattr(importlib.import_module(_NAMES[name]), name)
