"""What images start from; herding and k-center against plain NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raydistill.data.formation import expand
from raydistill.distill import initialise
from raydistill.distill.initialise import choose, embedder, embeddings, herding, initial_images, kcenter, labels_of
from raydistill.errors import ConfigError
from raydistill.models import Network
from tests.distill import small

REAL = small.real()


@pytest.fixture(scope="module")
def embed() -> Network:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(initialise, "EMBED_STEPS", 3)
        return embedder(REAL, "digits", 0)


def plain_herding(rows: np.ndarray, n: int) -> list[int]:
    """Of all rows not yet chosen take the one whose addition brings the chosen mean nearest to the mean of all."""
    chosen: list[int] = []
    for _ in range(n):
        distances = {
            i: float(np.sum((rows[[*chosen, i]].mean(0) - rows.mean(0)) ** 2))
            for i in range(len(rows))
            if i not in chosen
        }
        chosen.append(min(distances, key=lambda i: distances[i]))
    return chosen


def plain_kcenter(rows: np.ndarray, n: int) -> list[int]:
    """From the row nearest to the mean on, always the row farthest from all chosen ones."""
    chosen = [int(np.argmin(((rows - rows.mean(0)) ** 2).sum(1)))]
    while len(chosen) < n:
        distances = {
            i: min(float(np.sum((rows[i] - rows[c]) ** 2)) for c in chosen) for i in range(len(rows)) if i not in chosen
        }
        chosen.append(max(distances, key=lambda i: distances[i]))
    return chosen


@given(count=st.integers(1, 14), width=st.integers(1, 5), share=st.floats(0, 1), seed=st.integers(0, 10**6))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_herding_and_kcenter_are_the_plain_ones(count: int, width: int, share: float, seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((count, width))
    n = max(1, round(share * count))
    tensor = torch.from_numpy(rows)
    herded, central = herding(tensor, n).tolist(), kcenter(tensor, n).tolist()
    # With one row to go or a plane of few rows distances tie but for rounding: then any choice among equals is right.
    if len(set(plain_herding(rows, n))) == n and _no_ties(rows, plain_herding(rows, n)):
        assert herded == plain_herding(rows, n)
    assert central == plain_kcenter(rows, n)
    assert len(set(herded)) == len(set(central)) == n


def _no_ties(rows: np.ndarray, chosen: list[int]) -> bool:
    for count in range(1, len(chosen) + 1):
        before = chosen[: count - 1]
        values = sorted(
            float(np.sum((rows[[*before, i]].mean(0) - rows.mean(0)) ** 2)) for i in range(len(rows)) if i not in before
        )
        if len(values) > 1 and values[1] - values[0] < 1e-12:
            return False
    return True


@pytest.mark.parametrize("choice", [herding, kcenter])
def test_equal_images_are_not_chosen_twice(choice: object) -> None:
    assert callable(choice)
    rows = torch.ones(6, 3)
    assert sorted(choice(rows, 6).tolist()) == list(range(6))


def test_herding_beats_chance_at_the_mean_and_kcenter_at_coverage() -> None:
    rows = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))

    def off_mean(indices: Tensor) -> float:
        return float((rows[indices].mean(0) - rows.mean(0)).norm())

    def uncovered(indices: Tensor) -> float:
        return float(torch.cdist(rows, rows[indices]).min(1).values.max())

    chance = [torch.randperm(200, generator=torch.Generator().manual_seed(i))[:10] for i in range(20)]
    assert off_mean(herding(rows, 10)) < min(map(off_mean, chance))
    assert uncovered(kcenter(rows, 10)) < min(map(uncovered, chance))


@pytest.mark.parametrize("selection", ["random", "kcenter", "herding"])
def test_chosen_images_are_of_their_class_sorted_and_distinct(selection: initialise.Selection, embed: Network) -> None:
    indices = choose(selection, REAL, 5, 0, embed)
    assert REAL.labels[indices].tolist() == labels_of(3, 5).tolist()
    assert len(set(indices.tolist())) == 15
    assert torch.equal(indices, choose(selection, REAL, 5, 0, embed))
    if selection == "random":
        assert not torch.equal(indices, choose(selection, REAL, 5, 1, embed))


@pytest.mark.parametrize("selection", ["kcenter", "herding"])
def test_they_choose_in_the_networks_embedding(selection: initialise.Selection, embed: Network) -> None:
    plain = {"kcenter": plain_kcenter, "herding": plain_herding}[selection]
    members = np.flatnonzero(REAL.labels.numpy() == 1)
    rows = embeddings(REAL, torch.from_numpy(members), embed).double().numpy()
    assert choose(selection, REAL, 4, 0, embed)[4:8].tolist() == members[plain(rows, 4)].tolist()


def test_embeddings_do_not_depend_on_the_batch(embed: Network) -> None:
    indices = torch.arange(10)
    assert torch.allclose(embeddings(REAL, indices, embed, batch=3), embeddings(REAL, indices, embed), atol=1e-5)


def test_all_of_a_class_and_one_more() -> None:
    assert sorted(choose("random", REAL, 12, 0, None).tolist()) == list(range(36))
    with pytest.raises(ConfigError, match="ipc=13: class 'left' has only 12 training images; lower ipc"):
        choose("random", REAL, 13, 0, None)


def test_noise_is_standard_normal_and_named_by_the_seed() -> None:
    noise = initial_images("noise", REAL, 50, 1, 0, None)
    assert noise.shape == (150, 1, 8, 8)
    assert abs(float(noise.mean())) < 0.05
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    assert torch.equal(noise, initial_images("noise", REAL, 50, 1, 0, None))
    assert not torch.equal(noise, initial_images("noise", REAL, 50, 1, 1, None))


def test_real_images_are_encoded_real_images() -> None:
    indices = choose("random", REAL, 3, 7, None)
    assert torch.equal(initial_images("real", REAL, 3, 1, 7, None), REAL.take(indices))


def test_a_stored_image_holds_factor_squared_real_ones_of_its_class() -> None:
    stored = initial_images("real", REAL, 2, 2, 7, None)
    assert stored.shape == (6, 1, 8, 8)
    originals = REAL.take(choose("random", REAL, 8, 7, None))
    halved = torch.nn.functional.avg_pool2d(originals, 2)
    for number, image in enumerate(stored):
        quarters = [image[:, :4, :4], image[:, :4, 4:], image[:, 4:, :4], image[:, 4:, 4:]]
        assert torch.allclose(torch.stack(quarters), halved[4 * number : 4 * number + 4], atol=1e-6)
    upsampled = torch.nn.functional.interpolate(halved, size=(8, 8), mode="bilinear", align_corners=False)
    assert torch.allclose(expand(stored, 2), upsampled, atol=1e-5)


@pytest.mark.parametrize(("factor", "side"), [(3, 8), (2, 9)])
def test_sides_that_factor_does_not_divide(factor: int, side: int) -> None:
    made = small.images()
    pixels = np.ascontiguousarray(np.pad(made.images, [(0, 0), (0, 0), (0, side - 8), (0, side - 8)], mode="edge"))
    real = small.DeviceImages(small.ImageSet(pixels, made.labels, made.classes), REAL.encoding)
    found = initial_images("real", real, 1, factor, 0, None)
    assert found.shape == (3, 1, side, side)
    assert torch.isfinite(found).all()
