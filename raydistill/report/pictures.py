"""The images of a distilled set as a picture: before, after and their difference, one row a class.

Every image pixel becomes the same whole number of picture pixels, so nothing is blurred.

Shapes: n images, K channels (1 or 3), H×W pixels, C classes; pixel space, where [0, 1] is black to white.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from raydistill.report.style import INK, QUIET, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 216
"Twice the density of the page, so that the pictures are sharp on fine screens."
WIDTH = 2160
"Widest figure in pixels."
LARGEST, LARGEST_KEPT = 200, 256
"Largest side that a small image is enlarged to; larger ones are averaged down from the second on. In pixels."
BETWEEN, TOP, BAR, LEAST = 40, 52, 90, 520
"Pixels between panels, above each (title), below the last (colour scale); and a panel's least width."
MOST_IMAGES, MOST_CLASSES, MOST_IN_LINE = 10, 100, 12
"Shown per class; classes shown; classes up to which single images stand in one line."
NAME = 24
"Letters of a class name shown."


class Scale(NamedTuple):
    """The colour scale of the difference: symmetric about zero."""

    limit: float
    "Differences beyond ±limit are shown in the last colour."
    largest: float
    "The largest absolute difference."


class _Panel(NamedTuple):
    """One of the pictures that stand side by side: images [n, H, W, K]."""

    title: str
    images: np.ndarray
    scale: Scale | None = None


def rows_by_class(labels: np.ndarray, classes: int, most: int = MOST_IMAGES) -> list[np.ndarray]:
    """For each class the indices of its first ``most`` images."""
    return [np.flatnonzero(labels == label)[:most] for label in range(classes)]


def mosaic(images: np.ndarray, rows: Sequence[np.ndarray], scale: int, gap: int, empty: float) -> np.ndarray:
    """Images side by side, one row of the mosaic for each entry of ``rows``.

    Args:
        images: [n, H, W, K].
        rows: indices into ``images``.
        scale: each image pixel becomes scale×scale; below −1 every ``−scale`` pixels are averaged into one.
        gap: pixels between images.
        empty: value of the gaps and of missing images.

    Returns:
        [rows·(side + gap) − gap, columns·(side + gap) − gap, K].
    """
    tiles = _enlarged(images, scale) if scale > 0 else _reduced(images, -scale)
    _, height, width, channels = tiles.shape
    columns = max(len(row) for row in rows)
    shape = (len(rows) * (height + gap) - gap, columns * (width + gap) - gap, channels)
    canvas = np.full(shape, empty, dtype=np.float32)
    for r, row in enumerate(rows):
        for c, index in enumerate(row):
            top, left = r * (height + gap), c * (width + gap)
            canvas[top : top + height, left : left + width] = tiles[index]
    return canvas


def _enlarged(images: np.ndarray, scale: int) -> np.ndarray:
    return images.repeat(scale, axis=1).repeat(scale, axis=2)


def _reduced(images: np.ndarray, by: int) -> np.ndarray:
    n, height, width, channels = images.shape
    height, width = height // by, width // by
    cut = images[:, : height * by, : width * by]
    mean: np.ndarray = cut.reshape(n, height, by, width, by, channels).mean(axis=(2, 4))
    return mean


def difference_scale(difference: np.ndarray) -> Scale:
    """±limit such that 99.5 % of the differences fit, so that a single pixel does not bleach all others."""
    size = np.abs(difference)
    largest = float(size.max(initial=0.0))
    limit = float(np.quantile(size, 0.995)) if size.size else 0.0
    return Scale(limit if limit > 0 else (largest or 1.0), largest)


def shown_scale(before: np.ndarray, after: np.ndarray, labels: np.ndarray, classes: int) -> Scale:
    """The scale that ``image_grid`` uses: of the images shown, mean over channels; images [n, K, H, W]."""
    shown = np.concatenate(rows_by_class(labels, classes)[:MOST_CLASSES])
    return difference_scale((after[shown] - before[shown]).mean(axis=1))


@styled
def image_grid(
    before: np.ndarray | None, after: np.ndarray, labels: np.ndarray, classes: Sequence[str], titles: tuple[str, str]
) -> "Figure":
    """Before, after and after − before (mean over channels, its scale beside it), one row a class.

    Args:
        before: [n, K, H, W], or ``None`` if unknown: then only ``after`` is drawn.
        after: [n, K, H, W].
        labels: int [n]; the same images at the same place in both.
        classes: the C names.
        titles: of before and after.
    """
    rows = rows_by_class(labels, len(classes))[:MOST_CLASSES]
    new = after.transpose(0, 2, 3, 1)
    panels = [_Panel(titles[1], new)]
    if before is not None:
        old = before.transpose(0, 2, 3, 1)
        change = (new - old).mean(axis=3, keepdims=True)
        scale = shown_scale(before, after, labels, len(classes))
        panels = [_Panel(titles[0], old), *panels, _Panel("Difference: after − before", change, scale)]
    return _lay_out(panels, rows, [str(name) for name in classes])


class _Layout(NamedTuple):
    """Places of the panels, all of one size, in pixels."""

    scale: int
    gap: int
    beside: bool
    left: int
    "Room for names."


def _layout(side: int, columns: int, panels: int, names: list[str]) -> _Layout:
    """Panels side by side where that leaves every image at least its own size, else one below the other."""
    left = 24 + min(18 * max(map(len, names)), 18 * NAME)
    gap = 4 if side < 64 else 8
    tile = (WIDTH - left - BETWEEN * (panels - 1)) // panels // columns - gap
    beside = tile >= side
    if not beside:  # large images keep their size even where the page then shows the picture smaller
        tile = max((WIDTH - left) // columns - gap, min(side, LARGEST_KEPT))
    scale = min(tile // side, max(1, LARGEST // side)) if tile >= side else -math.ceil(side / tile)
    return _Layout(scale, gap, beside, left)


def _lay_out(panels: list[_Panel], rows: list[np.ndarray], classes: list[str]) -> "Figure":
    names = classes[: len(rows)]
    single = max(map(len, rows)) == 1 and len(rows) <= MOST_IN_LINE
    if single:  # one image a class: a panel is one line, and classes stand side by side
        rows = [np.concatenate(rows)]
    side, columns = panels[0].images.shape[2], max(map(len, rows))
    layout = _layout(side, columns, 1 if single else len(panels), ["class"] if single else names)
    beside = layout.beside and not single
    drawn = [mosaic(panel.images, rows, layout.scale, layout.gap, np.nan) for panel in panels]
    height, width = drawn[0].shape[:2]
    top, pitch = TOP + (30 if single else 0), max(width, LEAST if beside else 0) + BETWEEN
    across, down = (len(panels), 1) if beside else (1, len(panels))
    bottom = BAR if panels[-1].scale else 12
    total = (max(layout.left + across * pitch - BETWEEN, 720), down * (height + top) + bottom)
    figure = _figure(total)
    for position, (panel, pixels) in enumerate(zip(panels, drawn, strict=True)):
        x = layout.left + (position * pitch if beside else 0)
        y = top + (0 if beside else position * (height + top))
        ax = _axes(figure, total, (x, y, width, height))
        ax.set_title(panel.title, pad=14 if single else 5, fontsize=9)
        if single:
            _names_above(ax, names, width)
        elif position == 0 or not beside:
            _names_left(ax, names, height)
        if panel.scale is None:
            _show(ax, pixels)
        else:
            strip = (x, y + height + 16, min(max(width, LEAST - 20), 560), 14)
            _show_difference(ax, pixels, panel.scale, _axes(figure, total, strip))
    return figure


def _figure(total: tuple[int, int]) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def _axes(figure: "Figure", total: tuple[int, int], box: tuple[int, int, int, int]) -> "Axes":
    """Axes at (left, top, width, height) in pixels from the upper left corner."""
    x, y, width, height = box
    ax = figure.add_axes((x / total[0], 1 - (y + height) / total[1], width / total[0], height / total[1]))
    ax.grid(visible=False)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def _short(name: str) -> str:
    return name if len(name) <= NAME else name[: NAME - 1] + "…"


def _names_left(ax: "Axes", names: Sequence[str], height: int) -> None:
    pitch = height / len(names)
    places = [(row + 0.5) * pitch for row in range(len(names))]
    ax.set_yticks(places, list(map(_short, names)), fontsize=min(9.0, 0.6 * pitch * 72 / DPI))
    ax.tick_params(axis="y", length=0, labelcolor=INK)


def _names_above(ax: "Axes", names: Sequence[str], width: int) -> None:
    pitch = width / len(names)
    places = [(column + 0.5) * pitch for column in range(len(names))]
    fitting = 1.6 * pitch * 72 / DPI / max(map(len, names))
    ax.set_xticks(places, list(map(_short, names)), fontsize=min(8.5, fitting))
    ax.tick_params(axis="x", length=0, pad=2, labelcolor=QUIET, labeltop=True, labelbottom=False)


def _show(ax: "Axes", pixels: np.ndarray) -> None:
    missing = np.isnan(pixels).any(axis=2)
    if pixels.shape[2] == 1:
        pixels = pixels.repeat(3, axis=2)
    picture = np.where(missing[:, :, None], 1.0, pixels[:, :, :3].clip(0, 1))
    ax.imshow(picture, interpolation="nearest", aspect="auto", extent=_extent(pixels))


def _show_difference(ax: "Axes", pixels: np.ndarray, scale: Scale, strip: "Axes") -> None:
    limits: dict[str, Any] = {"vmin": -scale.limit, "vmax": scale.limit}
    shown = pixels[:, :, 0]
    drawn = ax.imshow(shown, cmap="RdBu_r", interpolation="nearest", aspect="auto", extent=_extent(pixels), **limits)
    colorbar = ax.figure.colorbar(drawn, cax=strip, orientation="horizontal")
    colorbar.outline.set_visible(False)
    ends = [f"−{scale.limit:.2g} darker", "0", f"+{scale.limit:.2g} brighter"]
    colorbar.set_ticks([-scale.limit, 0, scale.limit], labels=ends)
    first, _, last = strip.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    strip.tick_params(length=0, labelsize=8, labelcolor=QUIET)


def _extent(pixels: np.ndarray) -> tuple[float, float, float, float]:
    return (0, pixels.shape[1], pixels.shape[0], 0)


@styled
def set_strips(sets: Sequence[tuple[str, np.ndarray, np.ndarray, int]]) -> "Figure":
    """The first image of every class, one line a set under its label, to compare sets of several runs.

    Args:
        sets: (label, images [n, K, H, W], labels [n], C); K, H and W may differ from set to set.
    """
    chosen = [np.concatenate(rows_by_class(labels, count, most=1))[:20] for _, _, labels, count in sets]
    tile = min(WIDTH // max(map(len, chosen)) - 4, LARGEST)
    height = tile + TOP
    total = (WIDTH, len(sets) * height + 8)
    figure = _figure(total)
    for position, ((label, images, _, _), row) in enumerate(zip(sets, chosen, strict=True)):
        pixels = images.transpose(0, 2, 3, 1)
        side = pixels.shape[2]
        scale = tile // side if tile >= side else -math.ceil(side / tile)
        line = mosaic(pixels, [row], scale, 4, np.nan)
        ax = _axes(figure, total, (4, TOP + position * height, line.shape[1], line.shape[0]))
        ax.set_title(label, pad=5, fontsize=9)
        _show(ax, line)
    return figure
