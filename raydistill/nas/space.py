"""The NAS grid: 22 names of ConvNets (18 distinct architectures), and what to do with them."""

from pydantic import Field

from raydistill.config import Config
from raydistill.evaluate.protocol import Protocol, protocol


class NASConfig(Config):
    """The last stage: which network is best when trained on the distilled set."""

    networks: tuple[str, ...] = ()
    "Names to rank; empty: the 22 of the grid."
    protocol: Protocol = protocol("seed")
    "How each network is trained on the set."
    students: int = Field(1, ge=1)
    "Seeds a network."
