"""The images of a distilled set as a picture: before, after and their difference, one row a class.

Every image pixel becomes the same whole number of picture pixels, so nothing is blurred.

Shapes: n images, K channels (1 or 3), H×W pixels, C classes; pixel space, where [0, 1] is black to white.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from raydistill.report.style import INK, QUIET, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 216
"Twice the density of the page, so that the pictures are sharp on fine screens."
WIDTH = 2160
"Widest figure in pixels."
LARGEST, SMALLEST_GAP = 168, 2
"Largest side of a small image enlarged, and the gap between images, in pixels."
MOST_IMAGES, MOST_CLASSES = 10, 100
"Shown per class, and classes shown."


class Scale(NamedTuple):
    """The colour scale of the difference: symmetric about zero."""

    limit: float
    "Differences beyond ±limit are shown in the last colour."
    largest: float
    "The largest absolute difference."


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
    return cut.reshape(n, height, by, width, by, channels).mean(axis=(2, 4))


def difference_scale(difference: np.ndarray) -> Scale:
    """±limit such that 99.5 % of the differences fit, so that a single pixel does not bleach all others."""
    size = np.abs(difference)
    largest = float(size.max(initial=0.0))
    limit = float(np.quantile(size, 0.995)) if size.size else 0.0
    return Scale(limit if limit > 0 else (largest or 1.0), largest)


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
    shown = np.concatenate(rows)
    new = after.transpose(0, 2, 3, 1)
    panels: list[tuple[str, np.ndarray, Scale | None]] = [(titles[1], new, None)]
    if before is not None:
        old = before.transpose(0, 2, 3, 1)
        change = (new - old).mean(axis=3, keepdims=True)
        scale = difference_scale(change[shown])
        panels = [(titles[0], old, None), *panels, ("Difference: after − before", change, scale)]
    return _lay_out(panels, rows, [str(name) for name in classes])


def _lay_out(panels: list[tuple[str, np.ndarray, Scale | None]], rows: list[np.ndarray], classes: list[str]) -> "Figure":
    """Panels side by side where that leaves every image at least its own size, else one below the other."""
    side = panels[0][1].shape[2]
    columns = max(len(row) for row in rows)
    left = 24 + min(18 * max(len(name) for name in classes[: len(rows)]), 360)
    between, top, bottom = 40, 52, 90 if len(panels) > 1 else 12
    gap = 4 if side < 64 else 8
    room = (WIDTH - left - between * (len(panels) - 1)) // len(panels)
    beside = room // columns - gap >= side
    if not beside:
        room = WIDTH - left
    tile = room // columns - gap
    scale = min(tile // side, max(1, LARGEST // side)) if tile >= side else -math.ceil(side / max(tile, 1))
    drawn = [mosaic(images, rows, scale, gap, np.nan) for _, images, _ in panels]
    height, width = drawn[0].shape[:2]
    across, down = (len(panels), 1) if beside else (1, len(panels))
    least = 520 if len(panels) > 1 else 300  # room for the panel's title
    pitch = max(width, least if beside else 0) + between
    total = (max(left + across * pitch - between, 700), down * (height + top) + bottom)
    figure = _figure(total)
    for position, ((title, _, limit), pixels) in enumerate(zip(panels, drawn, strict=True)):
        x = left + (position * pitch if beside else 0)
        y = top + (0 if beside else position * (height + top))
        ax = _axes(figure, total, (x, y, width, height))
        ax.set_title(title, pad=5, fontsize=9)
        if position == 0 or not beside:
            _class_names(ax, classes[: len(rows)], height)
        if limit is None:
            _show(ax, pixels)
        else:
            _show_difference(figure, ax, pixels, limit, total, (x, y + height + 16, max(width, least - 20)))
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


def _class_names(ax: "Axes", classes: Sequence[str], height: int) -> None:
    pitch = height / len(classes)
    names = [name if len(name) <= 20 else name[:19] + "…" for name in classes]
    size = min(9.0, 0.6 * pitch * 72 / DPI)
    ax.set_yticks([(row + 0.5) * pitch for row in range(len(classes))], names, fontsize=size, parse_math=False)
    ax.tick_params(axis="y", length=0, labelcolor=INK)


def _show(ax: "Axes", pixels: np.ndarray) -> None:
    missing = np.isnan(pixels).any(axis=2)
    if pixels.shape[2] == 1:
        pixels = pixels.repeat(3, axis=2)
    picture = np.where(missing[:, :, None], 1.0, pixels[:, :, :3].clip(0, 1))
    ax.imshow(picture, interpolation="nearest", aspect="auto", extent=_extent(pixels))


def _show_difference(
    figure: "Figure", ax: "Axes", pixels: np.ndarray, scale: Scale, total: tuple[int, int], bar: tuple[int, int, int]
) -> None:
    drawn = ax.imshow(
        pixels[:, :, 0], cmap="RdBu_r", vmin=-scale.limit, vmax=scale.limit, interpolation="nearest", aspect="auto",
        extent=_extent(pixels),
    )  # fmt: skip
    strip = _axes(figure, total, (bar[0], bar[1], min(bar[2], 560), 14))
    colorbar = figure.colorbar(drawn, cax=strip, orientation="horizontal")
    colorbar.outline.set_visible(False)  # type: ignore[operator]
    ends = f"−{scale.limit:.2g} darker", "0", f"+{scale.limit:.2g} brighter"
    colorbar.set_ticks([-scale.limit, 0, scale.limit], labels=ends)
    for text, side in zip(strip.get_xticklabels(), ("left", "center", "right"), strict=True):
        text.set_horizontalalignment(side)
    strip.tick_params(length=0, labelsize=8, labelcolor=QUIET)


def _extent(pixels: np.ndarray) -> tuple[float, float, float, float]:
    return (0, pixels.shape[1], pixels.shape[0], 0)


@styled
def set_strips(sets: Sequence[tuple[str, np.ndarray, np.ndarray, int]]) -> "Figure":
    """The first image of every class, one row a set, to compare sets of several runs.

    Args:
        sets: (label, images [n, K, H, W], labels [n], C); K, H and W may differ from set to set.
    """
    shown = [(label, images, rows_by_class(labels, count, most=1)) for label, images, labels, count in sets]
    columns = min(max(len(rows) for _, _, rows in shown), 20)
    left = 24 + min(18 * max(len(label) for label, _, _ in shown), 500)
    tile = min((WIDTH - left) // columns - 4, LARGEST)
    total = (max(left + columns * (tile + 4), 700), len(shown) * (tile + 12) + 12)
    figure = _figure(total)
    for position, (label, images, rows) in enumerate(shown):
        pixels = images.transpose(0, 2, 3, 1)
        side = pixels.shape[2]
        scale = tile // side if tile >= side else -math.ceil(side / tile)
        line = mosaic(pixels, [np.concatenate(rows)[:columns]], scale, 4, np.nan)
        ax = _axes(figure, total, (left, 12 + position * (tile + 12), line.shape[1], line.shape[0]))
        _class_names(ax, [label], line.shape[0])
        _show(ax, line)
    return figure
