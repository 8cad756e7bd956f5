"""A distilled set: stored, read back, iterated over, and read where nothing but torch is installed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from raydistill import artifacts
from raydistill.data.distilled import DistilledSet
from raydistill.data.formation import expand
from raydistill.data.images import Encoding, Normaliser
from raydistill.data.whiten import Whitener
from raydistill.errors import ArtifactError

PIXELS = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
LABELS = torch.arange(3).repeat_interleave(2)
NORMALISER = Normaliser(mean=(0.25,), std=(0.5,))


def whitener() -> Whitener:
    return Whitener.fit(np.random.default_rng(0).integers(0, 256, (50, 1, 8, 8), dtype=np.uint8))


def made(encoding: Encoding = NORMALISER, **more: Any) -> DistilledSet:
    return DistilledSet(PIXELS, LABELS, encoding, ("a", "b", "c"), **more)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("kind", ["normaliser", "whitener"])
def test_what_is_stored_is_read_back(kind: str, factor: int, tmp_path: Path) -> None:
    encoding: Encoding = NORMALISER if kind == "normaliser" else whitener()
    kept = made(encoding, factor=factor, manifest={"seed": 3, "config": {"ipc": 2}})
    kept.save(tmp_path / "set")
    found = DistilledSet.load(str(tmp_path / "set"))
    assert torch.equal(found.pixels, kept.pixels)
    assert torch.equal(found.labels, kept.labels)
    assert (found.classes, found.factor) == (kept.classes, factor)
    assert type(found.encoding) is type(encoding)
    assert torch.equal(found.inputs(), kept.inputs())
    assert torch.equal(found.targets(), kept.targets())
    assert found.manifest["seed"] == 3
    assert found.manifest["config"] == {"ipc": 2}
    found.save(tmp_path / "again")
    for name in (artifacts.TENSORS, artifacts.MANIFEST):
        assert (tmp_path / "set" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_pixels_beyond_black_and_white_are_kept() -> None:
    assert PIXELS.min() < 0
    assert PIXELS.max() > 1
    assert torch.equal(made().pixels, PIXELS)
    assert torch.allclose(made().inputs(), (PIXELS - 0.25) / 0.5)


def test_it_is_a_dataset_for_a_loader() -> None:
    kept = made(factor=2)
    assert len(kept) == 24
    batches = list(DataLoader(kept, batch_size=10))
    assert [len(images) for images, _ in batches] == [10, 10, 4]
    assert torch.allclose(torch.cat([images for images, _ in batches]), kept.inputs(), atol=1e-6)
    assert torch.equal(torch.cat([labels for _, labels in batches]), kept.targets())
    assert batches[0][1].dtype == torch.int64


@pytest.mark.parametrize("factor", [1, 2])
def test_single_items_are_rows_of_the_whole(factor: int) -> None:
    kept = made(factor=factor)
    inputs, targets = kept.inputs(), kept.targets()
    assert torch.equal(inputs, expand(NORMALISER.encode(PIXELS), factor))
    for index in (*range(len(kept)), -1, -len(kept)):
        image, label = kept[index]
        assert image.shape == (1, 8, 8)
        assert torch.allclose(image, inputs[index], atol=1e-6)
        assert label == targets[index]
    for beyond in (len(kept), -len(kept) - 1):
        with pytest.raises(IndexError):
            kept[beyond]
    assert len(list(kept)) == len(kept)  # type: ignore[call-overload]


def test_images_and_labels_must_belong_together() -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        DistilledSet(PIXELS, LABELS[:5], NORMALISER, ("a", "b", "c"))
    with pytest.raises(ValueError, match="do not belong together"):
        DistilledSet(PIXELS[:, 0], LABELS, NORMALISER, ("a", "b", "c"))


def test_an_unknown_encoding_cannot_be_stored(tmp_path: Path) -> None:
    class Mirror:
        def encode(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels

        decode = encode

    with pytest.raises(TypeError, match="Mirror"):
        made(Mirror()).save(tmp_path / "set")


def change(path: Path, **facts: Any) -> None:
    manifest = json.loads((path / artifacts.MANIFEST).read_text())
    manifest.update(facts)
    manifest = {name: value for name, value in manifest.items() if value is not ...}
    (path / artifacts.MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "facts",
    [
        {"normaliser": ...},
        {"normaliser": {"mean": [0.5]}},
        {"normaliser": {"mean": [0.5], "std": [0.0]}},
        {"normaliser": None},
        {"classes": ...},
        {"classes": 3},
        {"factor": ...},
        {"factor": "two"},
        {"checksums": {}},
        {"schema": 99},
        {"kind": "distillation state"},
    ],
    ids=str,
)
def test_a_damaged_manifest(facts: dict[str, Any], tmp_path: Path) -> None:
    made().save(tmp_path / "set")
    change(tmp_path / "set", **facts)
    with pytest.raises(ArtifactError) as error:
        DistilledSet.load(tmp_path / "set")
    assert str(tmp_path / "set") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", [0, 20, -1])
def test_a_flipped_bit(place: int, tmp_path: Path) -> None:
    made().save(tmp_path / "set")
    file = tmp_path / "set" / artifacts.TENSORS
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match="damaged"):
        DistilledSet.load(tmp_path / "set")


@pytest.mark.parametrize("missing", ["pixels", "labels", "whitener.matrix"])
def test_a_missing_tensor(missing: str, tmp_path: Path) -> None:
    made(whitener()).save(tmp_path / "set")
    manifest, tensors = artifacts.load_folder(tmp_path / "set", "distilled set")
    del tensors[missing]
    kept = {k: v for k, v in manifest.items() if k not in ("schema", "kind", "checksums")}
    artifacts.save_folder(tmp_path / "set", "distilled set", kept, tensors)
    with pytest.raises(ArtifactError):
        DistilledSet.load(tmp_path / "set")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder"):
        DistilledSet.load(tmp_path / "set")


def test_facts_that_became_known_later(tmp_path: Path) -> None:
    made(manifest={"seed": 3}).save(tmp_path / "set")
    DistilledSet.annotate(tmp_path / "set", accuracy=0.9, seed=4)
    found = DistilledSet.load(tmp_path / "set")
    assert (found.manifest["accuracy"], found.manifest["seed"]) == (0.9, 4)
    assert torch.equal(found.pixels, PIXELS)
    with pytest.raises(ArtifactError):
        DistilledSet.annotate(tmp_path / "elsewhere", accuracy=0.9)


ALONE = """
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "mlflow", "optuna", "torchvision", "sklearn", "pandas", "matplotlib", "scipy"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
from torch.utils.data import DataLoader
from raydistill import DistilledSet
images, labels = next(iter(DataLoader(DistilledSet.load(sys.argv[1]), batch_size=24)))
print(tuple(images.shape), labels.tolist(), float(images.double().sum()))
"""


@pytest.mark.parametrize("kind", ["normaliser", "whitener"])
def test_it_needs_torch_alone(kind: str, tmp_path: Path) -> None:
    kept = made(NORMALISER if kind == "normaliser" else whitener(), factor=2)
    kept.save(tmp_path / "set")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path / "set")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"(24, 1, 8, 8) {kept.targets().tolist()} ")
    assert float(done.stdout.split()[-1]) == pytest.approx(float(kept.inputs().double().sum()), abs=1e-3)
