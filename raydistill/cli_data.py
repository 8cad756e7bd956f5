"""The command `raydistill data`: what real data there are, and tiles drawn for want of them."""

from pathlib import Path
from typing import Annotated

import typer

from raydistill.cli_options import AsJson, DataRoot
from raydistill.errors import ConfigError


def data(
    name: Annotated[str | None, typer.Argument(help="One data source. [default: all]")] = None,
    generate_tiles: Annotated[
        Path | None,
        typer.Option("--generate-tiles", metavar="DIR", help="Draw H&E-like tiles of two classes here, as MHIST lies."),
    ] = None,
    train_images: Annotated[
        int | None, typer.Option("--train-images", help="How many tiles, a third SSA. [default: 2175]")
    ] = None,
    test_images: Annotated[
        int | None, typer.Option("--test-images", help="How many tiles, a third SSA. [default: 977]")
    ] = None,
    side: Annotated[int | None, typer.Option("--side", help="Of a tile, in pixels. [default: 224]")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of the tiles. [default: 0]")] = None,
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Which real data are there, where they were found, and how to get the others.

    Example: raydistill data --generate-tiles DIR --train-images 300 --test-images 150 --side 56
    """
    from raydistill import doctor

    asked = {"train_images": train_images, "test_images": test_images, "side": side, "seed": seed}
    given = {option: value for option, value in asked.items() if value is not None}
    if generate_tiles is not None:
        for word, there in ((name, name), ("--data-root", data_root), ("--json", as_json)):
            if there:
                raise ConfigError(f"{word} has no effect on --generate-tiles; leave it out")
        doctor.generate_tiles(generate_tiles, **given)
        return
    for option in given:
        raise ConfigError(f"--{option.replace('_', '-')} has no effect without --generate-tiles DIR; leave it out")
    doctor.show_data(name, data_root, as_json)
