import io

import numpy as np
import pytest
from PIL import Image

from raydistill.report import pictures, style


def digits(n: int, side: int = 4, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (n, channels, side, side)).astype(np.float32)


def raster(figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(style.to_png(figure))).convert("RGB")).astype(int)


def test_a_mosaic_puts_each_image_in_its_place_enlarged_by_whole_pixels() -> None:
    images = np.arange(3 * 2 * 2, dtype=np.float32).reshape(3, 2, 2, 1)
    made = pictures.mosaic(images, [np.array([0, 1]), np.array([2])], scale=3, gap=1, empty=-1)
    assert made.shape == (13, 13, 1)
    assert (made[:6, :6, 0] == images[0, :, :, 0].repeat(3, 0).repeat(3, 1)).all()
    assert (made[:6, 7:, 0] == images[1, :, :, 0].repeat(3, 0).repeat(3, 1)).all()
    assert (made[7:, :6, 0] == images[2, :, :, 0].repeat(3, 0).repeat(3, 1)).all()
    assert (made[6] == -1).all()
    assert (made[7:, 6:] == -1).all()


def test_a_large_image_is_averaged_down() -> None:
    images = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    made = pictures.mosaic(images, [np.array([0])], scale=-2, gap=1, empty=0)
    assert made[:, :, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_rows_by_class_are_the_first_of_each() -> None:
    rows = pictures.rows_by_class(np.array([1, 0, 1, 1, 3]), 4, most=2)
    assert [row.tolist() for row in rows] == [[1], [0, 2], [], [4]]


def test_the_differences_scale_is_symmetric_and_forgives_a_single_pixel() -> None:
    difference = np.full(10_000, 0.1)
    difference[::2] *= -1
    difference[0] = -7.0
    scale = pictures.difference_scale(difference)
    assert scale.limit == pytest.approx(0.1)
    assert scale.largest == 7.0
    assert pictures.difference_scale(np.zeros((3, 3))).limit > 0


def panels(figure) -> list:
    return [ax for ax in figure.axes if ax.get_title(loc="left")]


def test_the_difference_is_drawn_on_a_symmetric_diverging_scale() -> None:
    before, labels = digits(20), np.repeat(np.arange(2), 10)
    after = before + np.float32(0.3) * digits(20, seed=1) - np.float32(0.1)  # mostly brighter: no symmetric data
    figure = pictures.image_grid(before, after, labels, ["a", "b"], ("Before", "After"))
    assert [ax.get_title(loc="left") for ax in panels(figure)] == ["Before", "After", "Difference: after − before"]
    image = panels(figure)[2].images[0]
    low, high = image.get_clim()
    assert low == -high
    assert high == pytest.approx(pictures.shown_scale(before, after, labels, 2).limit)
    assert image.get_cmap().name == "RdBu_r"
    assert figure.axes[-1].get_xticks().tolist() == pytest.approx([low, 0, high])


def test_the_difference_has_the_sign_of_after_minus_before() -> None:
    before = np.full((2, 1, 8, 8), 0.5, np.float32)
    after = before.copy()
    after[0] += 0.2
    after[1] -= 0.2
    figure = pictures.image_grid(before, after, np.array([0, 1]), ["up", "down"], ("Before", "After"))
    drawn = panels(figure)[2].images[0].get_array()
    assert drawn[2, 2] == pytest.approx(0.2)
    assert drawn[2, -2] == pytest.approx(-0.2)


def test_channels_are_averaged_in_the_difference_and_shown_in_colour_else() -> None:
    before = digits(4, channels=3)
    after = before.copy()
    after[:, 0] += 0.3
    figure = pictures.image_grid(before, after, np.array([0, 0, 1, 1]), ["a", "b"], ("Before", "After"))
    first, _, change = (ax.images[0].get_array() for ax in panels(figure))
    assert first.shape[2] == 3
    assert np.nanmax(change) == pytest.approx(0.1, abs=1e-6)


def test_pixels_are_not_blurred() -> None:
    after = np.zeros((4, 1, 8, 8), np.float32)
    after[:, :, ::2] = 1.0  # stripes: any blur would leave grey between them
    figure = pictures.image_grid(None, after, np.array([0, 0, 1, 1]), ["a", "b"], ("", "After"))
    shown = raster(figure)
    height, width = shown.shape[:2]
    box = panels(figure)[0].get_window_extent()
    inside = shown[height - int(box.y1) + 2 : height - int(box.y0) - 2, int(box.x0) + 2 : int(box.x1) - 2]
    assert set(np.unique(inside)) == {0, 255}
    assert width == figure.get_figwidth() * figure.dpi


@pytest.mark.parametrize(
    ("n", "classes", "side", "channels"),
    [
        (10, 10, 28, 1),
        (100, 10, 28, 1),
        (500, 10, 8, 1),
        (20, 2, 224, 3),
        (200, 200, 32, 3),
        (6, 2, 600, 1),
        (7, 3, 16, 1),
    ],
)
def test_every_shape_fits_on_the_page(n: int, classes: int, side: int, channels: int) -> None:
    labels = np.sort(np.arange(n) % classes)
    after = digits(n, side, channels)
    figure = pictures.image_grid(after, after, labels, [f"class {i}" for i in range(classes)], ("Before", "After"))
    width, height = (figure.get_size_inches() * figure.dpi).round().astype(int)
    assert 500 <= width <= 2800
    assert height < 40_000
    for ax in figure.axes:
        box = ax.get_position()
        assert box.x0 >= 0
        assert box.x1 <= 1.001
        assert box.y0 >= 0
        assert box.y1 <= 1
    drawn = panels(figure)[1].images[0].get_array()
    box = panels(figure)[1].get_window_extent()
    assert (round(box.height), round(box.width)) == drawn.shape[:2]  # one raster pixel each


def test_names_of_users_do_no_harm() -> None:
    after = digits(4)
    names = ["$x_{$", "a" * 200]
    figure = pictures.image_grid(None, after, np.array([0, 0, 1, 1]), names, ("", "After"))
    assert len(raster(figure)) > 0
    shown = [label.get_text() for label in panels(figure)[0].get_yticklabels()]
    assert shown[0] == "$x_{$"
    assert len(shown[1]) <= pictures.NAME


def test_strips_take_sets_of_different_shapes() -> None:
    figure = pictures.set_strips(
        [("one", digits(4, 8), np.array([0, 0, 1, 1]), 2), ("two", digits(3, 300, 3), np.array([0, 1, 2]), 3)]
    )
    assert [ax.get_title(loc="left") for ax in panels(figure)] == ["one", "two"]
    assert len(raster(figure)) > 0
