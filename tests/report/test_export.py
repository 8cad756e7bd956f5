from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raydistill.data.distilled import DistilledSet
from raydistill.data.images import Normaliser
from raydistill.data.whiten import Whitener
from raydistill.errors import ArtifactError, ConfigError, UnknownNameError
from raydistill.report.export import MOST_COLUMNS, export

CLASSES = ("cat", "dog & bone")


def stored(path: Path, channels: int = 3, ipc: int = 3, classes: tuple[str, ...] = CLASSES, zca: bool = False) -> Path:
    n = ipc * len(classes)
    pixels = torch.rand(n, channels, 6, 6, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    labels = torch.arange(len(classes)).repeat_interleave(ipc)
    encoding = Normaliser(mean=(0.5,) * channels, std=(0.25,) * channels)
    if zca:
        encoding = Whitener.fit((pixels.clamp(0, 1) * 255).to(torch.uint8).numpy())
    DistilledSet(pixels, labels, encoding, classes, manifest={"seed": 0}).save(path)
    return path


def test_npz_gives_everything_back_without_pickle(tmp_path: Path) -> None:
    source = DistilledSet.load(stored(tmp_path / "set"))
    with np.load(export(tmp_path / "set", "npz", tmp_path / "out/images"), allow_pickle=False) as file:
        arrays = dict(file)
    assert (tmp_path / "out/images.npz").exists()
    assert arrays["images"].dtype == np.float32
    assert arrays["labels"].dtype == np.int64
    assert (arrays["images"] == source.pixels.numpy()).all()  # nothing clipped
    assert (arrays["labels"] == source.labels.numpy()).all()
    assert tuple(arrays["classes"]) == CLASSES
    encoded = (arrays["images"] - arrays["mean"][:, None, None]) / arrays["std"][:, None, None]
    assert np.allclose(encoded, source.inputs().numpy(), atol=1e-6)


def test_npz_holds_the_whitening_of_a_whitened_set(tmp_path: Path) -> None:
    source = DistilledSet.load(stored(tmp_path / "set", ipc=40, zca=True))
    with np.load(export(tmp_path / "set", "npz", tmp_path / "w.npz"), allow_pickle=False) as arrays:
        flat = (arrays["images"] - arrays["whitener_mean"]).reshape(len(arrays["labels"]), -1)
        encoded = flat @ arrays["whitener_matrix"]
        assert "mean" not in arrays
    assert np.allclose(encoded, source.inputs().flatten(1).numpy(), atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_image_folder_is_read_back_by_torchvision(tmp_path: Path, channels: int) -> None:
    from torchvision.datasets import ImageFolder

    source = DistilledSet.load(stored(tmp_path / "set", channels))
    folder = ImageFolder(str(export(tmp_path / "set", "imagefolder", tmp_path / "out")))
    assert folder.classes == sorted(CLASSES)
    assert [folder.classes[label] for _, label in folder.samples] == [CLASSES[i] for i in source.labels.tolist()]
    for (path, _), pixels in zip(folder.samples, source.pixels, strict=True):
        read = np.asarray(Image.open(path).convert("RGB" if channels == 3 else "L"), dtype=np.float32) / 255
        expected = pixels.clamp(0, 1).permute(1, 2, 0).squeeze().numpy()
        assert np.abs(read - expected).max() <= 0.5 / 255 + 1e-6


def test_png_has_one_row_a_class(tmp_path: Path) -> None:
    file = export(stored(tmp_path / "set", 1), "png", tmp_path / "grid")
    assert file == tmp_path / "grid.png"
    picture = np.asarray(Image.open(file))
    side = 60  # ten times six pixels
    assert picture.shape == (2 * side + 2, 3 * side + 4)
    pixels = (DistilledSet.load(tmp_path / "set").pixels.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    assert (picture[side + 2 :: 10, side + 2 : 2 * side + 2 : 10][:6] == pixels[4, 0]).all()
    assert (picture[side : side + 2] == 255).all()


def test_a_large_class_takes_several_rows(tmp_path: Path) -> None:
    file = export(stored(tmp_path / "set", 1, ipc=MOST_COLUMNS + 1, classes=("one",)), "png", tmp_path / "grid.png")
    assert Image.open(file).size == (MOST_COLUMNS * 62 - 2, 2 * 62 - 2)


def test_the_same_set_gives_the_same_bytes(tmp_path: Path) -> None:
    stored(tmp_path / "set")
    for to in ("png", "npz"):
        first = export(tmp_path / "set", to, tmp_path / "a")
        assert first.read_bytes() == export(tmp_path / "set", to, tmp_path / "b").read_bytes()


def test_what_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="npz"):
        export(stored(tmp_path / "set"), "npy", tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(ArtifactError):
        export(tmp_path / "nothing", "png", tmp_path / "out")
    with pytest.raises(ConfigError, match="2"):
        export(stored(tmp_path / "two", channels=2), "png", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../../up", "a/b", "..", "", "c:\\x"])
def test_a_class_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="class"):
        export(stored(tmp_path / "set", classes=("ok", name)), "imagefolder", tmp_path / "out")
    assert not (tmp_path / "out").exists()
