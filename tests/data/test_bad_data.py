"""What a user is told when the data are missing, damaged or unfit."""

import builtins
import gzip
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from PIL import Image

from raydistill.data.load import DataConfig, load_test, load_train
from raydistill.errors import ConfigError, DataError
from tests.data.made import pixels, write_folder, write_idx, write_image, write_mnist


class Case(NamedTuple):
    """A bad situation: what to load, from where, and what the message must hold besides one line and a DataError."""

    config: DataConfig
    root: Path
    says: tuple[str, ...]
    part: Literal["train", "test"] = "train"


Bad = Callable[[Path], Case]
RAW = Path("MNIST") / "raw"


def mnist(root: Path, *says: str, part: Literal["train", "test"] = "train") -> Case:
    return Case(DataConfig(source="MNIST"), root, says, part)


def folder(path: Path, *says: str, part: Literal["train", "test"] = "train", **settings: Any) -> Case:
    return Case(DataConfig(source="folder", path=path, **settings), path, says, part)


def nothing_there(at: Path) -> Case:
    return mnist(at, "MNIST/raw/train-images-idx3-ubyte", str(at), "download failed", "RAYDISTILL_DATA")


def nothing_there_for_cifar(at: Path) -> Case:
    return Case(DataConfig(source="CIFAR10"), at, ("data_batch_1", str(at), "import CIFAR10"))


def root_is_a_file(at: Path) -> Case:
    (at / "file").touch()
    return mnist(at / "file", str(at / "file"), "--data-root")


def images_cut_short(at: Path) -> Case:
    file = write_mnist(at) / RAW / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])
    return mnist(at, str(file), "damaged", "get it again")


def header_overwritten(at: Path) -> Case:
    file = write_mnist(at) / RAW / "train-labels-idx1-ubyte"
    file.write_bytes(b"\xff" * 8 + file.read_bytes()[8:])
    return mnist(at, str(file), "no IDX file", "get it again")


def empty_file(at: Path) -> Case:
    file = write_mnist(at) / RAW / "t10k-images-idx3-ubyte"
    file.write_bytes(b"")
    return mnist(at, str(file), "starts with nothing", "get it again", part="test")


def still_compressed(at: Path) -> Case:
    file = write_mnist(at) / RAW / "train-images-idx3-ubyte"
    file.write_bytes(gzip.compress(file.read_bytes()))
    return mnist(at, str(file), "uncompressed")


def images_of_another_size(at: Path) -> Case:
    write_mnist(at, side=32)
    return mnist(at, str(at / RAW / "train-images-idx3-ubyte"), "32x32 where 28x28 belong")


def images_in_place_of_labels(at: Path) -> Case:
    shutil.copy(write_mnist(at) / RAW / "train-images-idx3-ubyte", at / RAW / "train-labels-idx1-ubyte")
    return mnist(at, str(at / RAW / "train-labels-idx1-ubyte"), "no IDX file of bytes with 1 dimension")


def more_items_promised_than_memory_holds(at: Path) -> Case:
    file = write_mnist(at) / RAW / "train-images-idx3-ubyte"
    file.write_bytes(bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**32 - 1, 28, 28) + bytes(100))
    return mnist(at, str(file), "damaged", "get it again")


def fewer_labels_than_images(at: Path) -> Case:
    write_idx(write_mnist(at) / RAW / "train-labels-idx1-ubyte", np.arange(29) % 10)
    return mnist(at, "MNIST", "train", "30 images but 29 labels", "get them again")


def label_out_of_range(at: Path) -> Case:
    write_idx(write_mnist(at) / RAW / "train-labels-idx1-ubyte", np.array([*range(10)] * 2 + [3] * 9 + [12]))
    return mnist(at, "MNIST", "label 12 of image 29", "0 to 9", "get them again")


def class_missing_in_the_test_labels(at: Path) -> Case:
    write_idx(write_mnist(at) / RAW / "t10k-labels-idx1-ubyte", np.arange(20) % 9)
    return mnist(at, "MNIST", "test part", "no image of class '9'", "get them again", part="test")


def class_of_one_image(at: Path) -> Case:
    write_mnist(at, per_class=(1, 1))
    return mnist(at, "class '0' has 1 training image", "add images")


def no_such_folder(at: Path) -> Case:
    return folder(at / "nope", str(at / "nope"), "PATH/train/CLASS")


def folder_without_train(at: Path) -> Case:
    shutil.rmtree(write_folder(at / "pets") / "train")
    return folder(at / "pets", str(at / "pets"), "no train/", "PATH/train/CLASS")


def folder_without_test(at: Path) -> Case:
    shutil.rmtree(write_folder(at / "pets") / "test")
    return folder(at / "pets", str(at / "pets"), "no test/", "PATH/test/CLASS", part="test")


def images_without_class_folders(at: Path) -> Case:
    write_image(at / "train" / "1.png", pixels(1, 8, 8)[0])
    return folder(at, str(at / "train"), "0 class folder(s)", "PATH/train/CLASS")


def only_one_class(at: Path) -> Case:
    return folder(write_folder(at, classes=("cat",)), str(at / "train"), "1 class folder(s)", "2 or more")


def empty_class_folder(at: Path) -> Case:
    (write_folder(at) / "train" / "owl").mkdir()
    return folder(at, str(at / "train" / "owl"), "no images", "add some, or delete")


def class_of_one_file(at: Path) -> Case:
    write_image(write_folder(at) / "train" / "owl" / "1.png", pixels(1, 8, 8)[0])
    return folder(at, "class 'owl' has 1 training image", "add images")


def class_missing_in_the_test_folder(at: Path) -> Case:
    shutil.rmtree(write_folder(at) / "test" / "dog")
    return folder(at, str(at / "test"), "'dog'", "both need the same classes", part="test")


def class_only_in_the_test_folder(at: Path) -> Case:
    write_image(write_folder(at) / "test" / "ape" / "1.png", pixels(1, 8, 8)[0])
    return folder(at, str(at / "train"), "'ape'", "both need the same classes", part="test")


def sizes_differ(at: Path) -> Case:
    write_image(write_folder(at) / "train" / "dog" / "big.png", pixels(1, 9, 12)[0])
    return folder(at, str(at / "train" / "dog" / "big.png"), "12x9", "8x8", "data.image_size")


def other_size_in_test(at: Path) -> Case:
    write_folder(at, side=8)
    shutil.rmtree(at / "test")
    write_folder(at / "more", side=10)
    shutil.move(at / "more" / "test", at / "test")
    return folder(at, str(at / "test"), "10x10", "8x8", "data.image_size", part="test")


def text_named_png(at: Path) -> Case:
    file = write_folder(at) / "train" / "cat" / "0.png"
    file.write_text("not a picture")
    return folder(at, str(file), "cannot read the image", "mend it, or delete it")


def png_cut_short(at: Path) -> Case:
    file = write_folder(at, side=32) / "train" / "cat" / "0.png"
    file.write_bytes(file.read_bytes()[:300])
    return folder(at, str(file), "cannot read the image", "mend it, or delete it")


def dangling_link(at: Path) -> Case:
    file = write_folder(at) / "train" / "cat" / "link.png"
    file.symlink_to(at / "gone.png")
    return folder(at, str(file), "cannot read the image", "delete it")


def sixteen_bits(at: Path) -> Case:
    file = write_folder(at) / "train" / "cat" / "deep.png"
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(file)
    return folder(at, str(file), "I;16", "8-bit")


def too_large_for_zca(at: Path) -> Case:
    return folder(write_folder(at, side=112), "data.zca=True", "1x112x112", "data.zca=false", zca=True)


SITUATIONS: list[Bad] = [
    nothing_there,
    nothing_there_for_cifar,
    root_is_a_file,
    images_cut_short,
    header_overwritten,
    empty_file,
    still_compressed,
    images_of_another_size,
    images_in_place_of_labels,
    more_items_promised_than_memory_holds,
    fewer_labels_than_images,
    label_out_of_range,
    class_missing_in_the_test_labels,
    class_of_one_image,
    no_such_folder,
    folder_without_train,
    folder_without_test,
    images_without_class_folders,
    only_one_class,
    empty_class_folder,
    class_of_one_file,
    class_missing_in_the_test_folder,
    class_only_in_the_test_folder,
    sizes_differ,
    other_size_in_test,
    text_named_png,
    png_cut_short,
    dangling_link,
    sixteen_bits,
    too_large_for_zca,
]


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.__name__)
def test_bad_data_are_told_in_one_line_with_a_way_out(situation: Bad, tmp_path: Path) -> None:
    case = situation(tmp_path)
    expected = ConfigError if case.config.zca else DataError
    with pytest.raises(expected) as caught:
        (load_train if case.part == "train" else load_test)(case.config, case.root)
    message = str(caught.value)
    assert "\n" not in message
    for text in case.says:
        assert text in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_an_unreadable_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path)
    real = builtins.open

    def refuse(file: Any, *args: Any, **kwargs: Any) -> Any:
        if str(file).endswith("train-images-idx3-ubyte"):
            raise PermissionError(13, "Permission denied")
        return real(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(DataError, match=r"cannot read [^\n]*train-images-idx3-ubyte: Permission denied; mend"):
        load_train(DataConfig(source="MNIST"), tmp_path)
