"""How the report's figures look: colours and marks, one style whatever the user's settings are, PNG bytes.

Colours are Okabe and Ito's, which people with colour-blindness can tell apart; what colour says, shape says too.
"""

import functools
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, ParamSpec

from raydistill.artifacts import COMPLETED, DIVERGED, FAILED, RUNNING, STOPPED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 10.0
"Inches; at this width a 9-point letter is readable when the figure fills the page."
DPI = 160
INK, QUIET, GRID = "#1d2433", "#667085", "#e4e7ec"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}

P = ParamSpec("P")


class Mark(NamedTuple):
    """How one kind of point looks."""

    color: str
    marker: str
    size: float = 7.0
    "Points."


ARMS = {
    "distilled": Mark("#0072b2", "o"),
    "random": Mark("#e69f00", "s"),
    "herding": Mark("#009e73", "^"),
    "kcenter": Mark("#cc79a7", "D"),
    "whole": Mark("#4b5563", "P", 9.0),
}
OUTCOMES = {
    COMPLETED: Mark("#0072b2", "o"),
    STOPPED: Mark("#e69f00", "s"),
    RUNNING: Mark("#009e73", "D"),
    DIVERGED: Mark("#d55e00", "X", 9.0),
    FAILED: Mark("#000000", "v"),
}


def styled(draw: "Callable[P, Figure]") -> "Callable[P, Figure]":
    """Draw in the report's style, whatever the user's own matplotlib settings are."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        import matplotlib

        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(STYLE)
            return draw(*args, **kwargs)

    return wrapped


def new_figure(height: float, width: float = WIDTH) -> "Figure":
    """An empty figure of ``width`` × ``height`` inches with its own canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: "Figure") -> bytes:
    """The figure as PNG bytes; equal figures give equal bytes."""
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()
