"""Which data are there, without reading or fetching any: what ``raydistill data`` shows."""

from pathlib import Path
from typing import Literal, NamedTuple

from raydistill import registry
from raydistill.data.sources import Source
from raydistill.errors import DataError


class Row(NamedTuple):
    """One data source; the numbers are of both parts together and ``None`` where the data are not there."""

    name: str
    status: Literal["found", "missing", "damaged", "your own"]
    where: str | None
    images: int | None
    classes: int | None
    shape: tuple[int, int, int] | None
    "(K, H, W)."
    how_to_get: str
    "For damaged data: what is wrong with them, and what to do."


def describe(root: Path | None = None) -> list[Row]:
    """One row for every registered data source, in the registry's order.

    Args:
        root: where to look first, see ``data_roots``.
    """
    return [_row(name, root) for name in registry.SOURCES]


def _row(name: str, root: Path | None) -> Row:
    source: type[Source] = registry.resolve("data source", name)
    if source.required:
        return Row(name, "your own", None, None, None, None, source.how_to_get)
    try:
        found = source().find(root)
    except DataError as error:
        return Row(name, "damaged", None, None, None, None, str(error))
    if found is None:
        return Row(name, "missing", None, None, None, None, source.how_to_get)
    return Row(name, "found", *found, source.how_to_get)
