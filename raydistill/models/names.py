"""The networks by name: one table for the ConvNet family, one for the others.

The bare name ``ConvNet`` is deliberately not in it: it is batch norm in DataDAM's release and instance norm in PAD's.
Every other ConvNet has a name that spells it out, such as ``ConvNet-D2-W64-batch-swish-max``;
``ConvNet-D2-W64`` is the default at another depth and width.
"""

import re
from typing import get_args

from raydistill.errors import ConfigError, UnknownNameError
from raydistill.models.convnet import Activation, ConvNetConfig, Norm, Pooling

CONVNETS: dict[str, ConvNetConfig] = {
    "ConvNetD1": ConvNetConfig(depth=1),
    "ConvNetD2": ConvNetConfig(depth=2),
    "ConvNetD3": ConvNetConfig(),
    "ConvNetD4": ConvNetConfig(depth=4),
    "ConvNetD5": ConvNetConfig(depth=5),
    "ConvNetW32": ConvNetConfig(width=32),
    "ConvNetW64": ConvNetConfig(width=64),
    "ConvNetW128": ConvNetConfig(),
    "ConvNetW256": ConvNetConfig(width=256),
    "ConvNetAS": ConvNetConfig(activation="sigmoid"),
    "ConvNetAR": ConvNetConfig(),
    "ConvNetAL": ConvNetConfig(activation="leakyrelu"),
    "ConvNetASwish": ConvNetConfig(activation="swish"),
    "ConvNetASwishBN": ConvNetConfig(activation="swish", norm="batch"),
    "ConvNetNN": ConvNetConfig(norm="none"),
    "ConvNetBN": ConvNetConfig(norm="batch"),
    "ConvNetLN": ConvNetConfig(norm="layer"),
    "ConvNetIN": ConvNetConfig(),
    "ConvNetGN": ConvNetConfig(norm="group"),
    "ConvNetNP": ConvNetConfig(pooling="none"),
    "ConvNetMP": ConvNetConfig(pooling="max"),
    "ConvNetAP": ConvNetConfig(),
    "ConvNetD6": ConvNetConfig(depth=6),
    "ConvNetD7": ConvNetConfig(depth=7),
    "ConvNetD8": ConvNetConfig(depth=8),
}
"Each name changes only what it says on the default, which is ConvNetD3."

CLASSICS = ("AlexNet", "LeNet", "MLP", "ResNet18", "VGG11")

GRID: tuple[str, ...] = tuple(name for name in CONVNETS if name not in ("ConvNetD6", "ConvNetD7", "ConvNetD8"))
"The 22 names of the NAS grid; five of them are ConvNetD3 under another name, so 18 are distinct."

SPELLED = re.compile(
    r"ConvNet-D([1-9]\d*)-W([1-9]\d*)"
    + "(?:"
    + "".join(f"-({'|'.join(get_args(choices))})" for choices in (Norm, Activation, Pooling))
    + ")?"
)
"Depth, width, and all of norm, activation and pooling, or none where they are the default's."


def known_networks() -> list[str]:
    """Every name that ``models.build`` takes, apart from those that spell a ConvNet out."""
    return [*CONVNETS, *CLASSICS]


def require(name: str) -> str:
    """``name`` itself if it is a known network.

    Raises:
        ConfigError: the ambiguous ``ConvNet``.
        UnknownNameError: no such network; with the nearest names.
    """
    if name.lower() == "convnet":
        raise ConfigError(
            f"network={name!r} means batch norm in one release and instance norm in another; "
            "write ConvNetBN (batch) or ConvNetD3 (instance)"
        )
    if convnet_config(name) is None and name not in CLASSICS:
        raise UnknownNameError("network", name, known_networks())
    return name


def convnet_config(name: str) -> ConvNetConfig | None:
    """The architecture of a ConvNet name; ``None`` for any other name."""
    spelled = SPELLED.fullmatch(name)
    if spelled is None:
        return CONVNETS.get(name)
    depth, width, *kinds = spelled.groups()
    rest = dict(zip(("norm", "activation", "pooling"), kinds, strict=True)) if kinds[0] else {}
    return ConvNetConfig(depth=int(depth), width=int(width), **rest)


def name_of(config: ConvNetConfig) -> str:
    """The name of an architecture: the registered one where there is one, else the one that spells it out."""
    spelled = f"ConvNet-D{config.depth}-W{config.width}-{config.norm}-{config.activation}-{config.pooling}"
    return next((name for name, same in CONVNETS.items() if same == config), spelled)


def canonical(name: str) -> str:
    """The first name of the same architecture: ConvNetW128, AR, IN and AP are ``ConvNetD3``; others are themselves.

    Raises:
        ConfigError: an unknown or ambiguous name.
    """
    config = convnet_config(require(name))
    return name if config is None else name_of(config)
