"""ZCA whitening: against its NumPy twin, and its properties."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from raydistill import artifacts
from raydistill.data import whiten
from raydistill.data.images import DeviceImages, ImageSet
from raydistill.data.whiten import Whitener
from raydistill.errors import ArtifactError, ConfigError
from tests.reference import whiten as twin


def correlated(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """uint8 images whose neighbouring pixels are alike, as in photographs."""
    noise = np.random.default_rng(seed).normal(size=(count, *shape))
    smooth = noise.cumsum(axis=-1).cumsum(axis=-2)
    images: np.ndarray = np.clip(128 + 25 * smooth, 0, 255).astype(np.uint8)
    return images


def as_pixels(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).float() / 255


@pytest.mark.parametrize("eps", [0.1, 0.001])
@pytest.mark.parametrize(("count", "shape"), [(300, (1, 6, 5)), (40, (3, 5, 4)), (5000, (3, 3, 3))])
def test_it_equals_its_twin(count: int, shape: tuple[int, int, int], eps: float) -> None:
    images = correlated(count, *shape)
    fitted = Whitener.fit(images, eps)
    mean, matrix, inverse = twin.fit(images, eps)
    assert fitted.mean.dtype == fitted.matrix.dtype == fitted.inverse.dtype == torch.float32
    assert fitted.mean.shape == shape
    np.testing.assert_allclose(fitted.mean.flatten(), mean, rtol=1e-6)
    np.testing.assert_allclose(fitted.matrix, matrix, atol=1e-6 * np.abs(matrix).max())
    np.testing.assert_allclose(fitted.inverse, inverse, atol=1e-6 * np.abs(inverse).max())
    encoded = (images[:9].reshape(9, -1) / 255 - mean) @ matrix
    np.testing.assert_allclose(fitted.encode(as_pixels(images[:9])).flatten(1), encoded, atol=1e-4)


def test_it_decodes_what_it_encodes() -> None:
    images = correlated(200, 3, 6, 6)
    fitted = Whitener.fit(images)
    pixels = as_pixels(images)
    assert torch.allclose(fitted.decode(fitted.encode(pixels)), pixels, atol=1e-5)
    noise = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(fitted.encode(fitted.decode(noise)), noise, atol=1e-4)


def test_it_decorrelates() -> None:
    images = correlated(4000, 1, 5, 5)
    before = np.cov(images.reshape(4000, -1).T / 255)
    after = np.cov(Whitener.fit(images, eps=1e-6).encode(as_pixels(images)).flatten(1).numpy().T)
    assert np.abs(before - np.diag(np.diag(before))).max() > 0.02
    np.testing.assert_allclose(after, np.eye(25), atol=0.02)


def test_fitting_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = correlated(100, 1, 4, 4)
    whole = Whitener.fit(images)
    monkeypatch.setattr(whiten, "_CHUNK", 7)
    assert torch.allclose(Whitener.fit(images).matrix, whole.matrix, atol=1e-6)


def test_constant_pixels_do_no_harm() -> None:
    images = correlated(50, 1, 4, 4)
    images[:, :, 0] = 0
    fitted = Whitener.fit(images)
    assert fitted.matrix.isfinite().all()
    pixels = as_pixels(images)
    assert torch.allclose(fitted.decode(fitted.encode(pixels)), pixels, atol=1e-5)


def test_gradients_pass_and_type_and_shape_stay() -> None:
    fitted = Whitener.fit(correlated(50, 3, 4, 4))
    pixels = torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    encoded = fitted.encode(pixels)
    assert (encoded.dtype, encoded.shape) == (pixels.dtype, pixels.shape)
    assert torch.autograd.gradcheck(fitted.encode, (pixels,))


def test_it_serves_as_the_encoding_of_device_images(tiny_images: ImageSet) -> None:
    fitted = Whitener.fit(tiny_images.images)
    batch = DeviceImages(tiny_images, fitted).take(torch.tensor([3, 1]))
    assert torch.allclose(batch, fitted.encode(as_pixels(tiny_images.images[[3, 1]])))


def test_it_comes_back_from_an_artefact_and_from_another_process(tmp_path: Path) -> None:
    images = correlated(50, 1, 5, 4)
    fitted = Whitener.fit(images)
    expected = fitted.encode(as_pixels(images))
    folder = tmp_path / "set"
    artifacts.save_folder(folder, "whitener", {}, fitted.to_tensors())
    read = Whitener.from_tensors(artifacts.load_folder(folder, "whitener")[1])
    sent = pickle.loads(pickle.dumps(fitted))
    for copy in (read, sent):
        assert torch.equal(copy.encode(as_pixels(images)), expected)
        assert torch.equal(copy.inverse, fitted.inverse)


@pytest.mark.parametrize("harm", ["missing", "shape", "flat mean", "not finite"])
def test_a_damaged_one_is_refused(harm: str) -> None:
    tensors = Whitener.fit(correlated(20, 1, 3, 3)).to_tensors()
    if harm == "missing":
        del tensors["inverse"]
    elif harm == "shape":
        tensors["matrix"] = tensors["matrix"][:4]
    elif harm == "flat mean":
        tensors["mean"] = tensors["mean"].flatten()
    else:
        tensors["inverse"] = tensors["inverse"].index_fill(0, torch.tensor([2]), float("nan"))
    with pytest.raises(ArtifactError, match=r"^the ZCA transformation [^\n]* again$"):
        Whitener.from_tensors(tensors)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 6, 4\)"):
        Whitener.fit(correlated(20, 1, 4, 6)).encode(torch.zeros(1, 1, 6, 4))


def test_images_too_large_are_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match=r"3x65x64 have 12480 values[^\n]*12288[^\n]*data.zca=false"):
        Whitener.fit(np.zeros((2, 3, 65, 64), np.uint8))


@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan")])
def test_eps_must_be_above_zero(eps: float) -> None:
    with pytest.raises(ConfigError, match="eps="):
        Whitener.fit(correlated(20, 1, 3, 3), eps)
