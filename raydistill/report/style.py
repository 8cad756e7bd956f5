"""How the report's figures look: colours and marks, one style whatever the user's settings are, PNG bytes.

Colours are Okabe and Ito's, which people with colour-blindness can tell apart; what colour says, shape says too.
"""

import functools
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, ParamSpec, cast

from raydistill.artifacts import COMPLETED, DIVERGED, FAILED, RUNNING, STOPPED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

WIDTH = 10.0
"Inches; at this width a 9-point letter is readable when the figure fills the page."
DPI = 160
INK, QUIET, GRID = "#1d2433", "#667085", "#e4e7ec"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

STYLE: dict[str, Any] = {
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
    "text.parse_math": False,  # a $ in a name is a $
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
    "initial": Mark("#56b4e9", "v"),
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


@contextmanager
def report_style() -> Iterator[None]:
    """The report's style, whatever the user's own matplotlib settings are; afterwards those are back."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, STYLE))
        yield


def styled(draw: "Callable[P, Figure]") -> "Callable[P, Figure]":
    """Draw in the report's style."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        with report_style():
            return draw(*args, **kwargs)

    return wrapped


def new_figure(height: float, width: float = WIDTH) -> "Figure":
    """An empty figure of ``width`` × ``height`` inches with its own canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(h_pad=0.07))
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: "Figure") -> bytes:
    """The figure as PNG bytes; equal figures give equal bytes."""
    data = io.BytesIO()
    with report_style():  # ticks are made when they are drawn
        figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def legend_handles(marks: Mapping[str, Mark], present: Iterable[str]) -> "list[Line2D]":
    """Legend entries for those of ``marks`` whose names are ``present``."""
    from matplotlib.lines import Line2D

    there = set(present)
    style: dict[str, Any] = {"linestyle": "", "markeredgecolor": "white"}
    return [
        Line2D([], [], color=mark.color, marker=mark.marker, markersize=mark.size, label=name, **style)
        for name, mark in marks.items()
        if name in there
    ]


def logarithmic(ax: "Axes", which: Literal["x", "y"]) -> None:
    """A log scale with plain numbers at round places, as many as the range of what was drawn needs."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if which == "x":
        ax.set_xscale("log")
    else:
        ax.set_yscale("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = ax.get_xlim() if which == "x" else ax.get_ylim()
    decades = math.log10(high / low)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 1.6 else (1, 3) if decades < 3.2 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
