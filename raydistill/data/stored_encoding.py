"""How an encoding lies in an artefact: a normaliser in its manifest, a whitener's matrices among its tensors."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from raydistill.data.images import Encoding, Normaliser
from raydistill.data.whiten import Whitener

PREFIX = "whitener."


def stored(encoding: Encoding) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What goes into the manifest, and what among the tensors."""
    match encoding:
        case Normaliser():
            return {"normaliser": encoding.to_json()}, {}
        case Whitener():
            return {}, {f"{PREFIX}{name}": tensor for name, tensor in encoding.to_tensors().items()}
        case other:
            raise TypeError(f"cannot store the encoding {type(other).__name__}")


def read(manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Encoding:
    """What ``stored`` gave.

    Raises:
        KeyError, ConfigError, ArtifactError: it is not there, or not whole.
    """
    whitener = {name.removeprefix(PREFIX): t for name, t in tensors.items() if name.startswith(PREFIX)}
    return Whitener.from_tensors(whitener) if whitener else Normaliser.parse(manifest["normaliser"])
