"""What there is: real data for ``raydistill data``, and the machine for ``raydistill doctor``."""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from raydistill import provenance, storage
from raydistill.data.describe import Row, describe
from raydistill.errors import ConfigError, RaydistillError, UnknownNameError, without_credentials
from raydistill.experts import store
from raydistill.interrupts import interruptible

LEAST_FREE = 2**30
"Bytes of free disk below which the doctor warns."


class Finding(NamedTuple):
    """One line of the doctor's report; ``works`` is ``None`` for what is merely not there."""

    name: str
    works: bool | None
    text: str


def show_data(name: str | None, root: Path | None, as_json: bool) -> None:
    """Print a table of the data sources, or all about one.

    Raises:
        UnknownNameError: no such source.
    """
    rows = describe(root)
    if name is not None:
        if name not in {row.name for row in rows}:
            raise UnknownNameError("data source", name, [row.name for row in rows])
        rows = [row for row in rows if row.name == name]
    if as_json:
        print(json.dumps([row._asdict() for row in rows]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("source", "status", "images", "classes", "shape", "where / how to get it", box=None)
    for row in rows:
        shape = "" if row.shape is None else "x".join(map(str, row.shape))
        where = row.where if row.status == "found" and row.where else row.how_to_get
        table.add_row(row.name, row.status, _text(row.images), _text(row.classes), shape, where)
    Console().print(table)


def generate_tiles(
    folder: Path, train_images: int = 2175, test_images: int = 977, side: int = 224, seed: int = 0
) -> None:
    """Draw tiles into ``folder`` and say how to use them; the defaults are MHIST's own numbers. See ``data/tiles.py``."""
    from raydistill.data import tiles
    from raydistill.track import Progress

    wanted, count = tiles.Wanted(train_images, test_images, side, seed), train_images + test_images
    tiles.check(folder, wanted)
    with interruptible(), closing(Progress()) as progress:
        progress.stage("tiles", count, "tiles")
        tiles.generate(folder, wanted, lambda: progress.advance("tiles"))
    print(f"{count:,} generated tiles; use them with --data-root {shlex.quote(str(folder))}")


def show_experts(out: Path, prune: Sequence[str], as_json: bool) -> None:
    """Print what the cache of expert trajectories holds; first remove the entries named in ``prune``, or ``all``.

    Raises:
        UnknownNameError: no such entry.
    """
    cache = out / store.FOLDER
    entries = {one.path.name: one for one in store.listed(cache)}
    if prune:
        for name in prune:
            if name != "all" and name not in entries:
                raise UnknownNameError("entry of the cache", name, [*entries, "all"])
        gone = [one for name, one in entries.items() if "all" in prune or name in prune]
        freed = store.prune(gone)
        entries = {name: one for name, one in entries.items() if one not in gone}
        print(f"removed {len(gone)} entries, {freed / 1e6:.1f} MB free again", file=sys.stderr)
    if as_json:
        print(json.dumps([one._asdict() | {"path": str(one.path)} for one in entries.values()]))
        return
    if not entries:
        print(f"no expert trajectories in {storage.shown(cache)}; `raydistill experts SEARCH` trains them")
        return
    from rich.console import Console
    from rich.table import Column, Table

    whole = Column("entry", min_width=16)  # `--prune` wants all of it, however narrow the terminal
    table = Table(whole, "source", "network", "trajectories", "epochs", "accuracy %", "MB", "damaged", box=None)
    for name, one in entries.items():
        accuracy = "" if one.accuracy is None else f"{100 * one.accuracy:.2f}"
        cells = (
            one.about.get("source"),
            one.about.get("network"),
            one.whole,
            one.epochs,
            accuracy,
            f"{one.bytes / 1e6:.1f}",
        )
        table.add_row(name, *map(str, cells), ", ".join(one.damaged) or "none")
    Console().print(table)


def examine(address: str | None, tracking_uri: str | None, out: Path, root: Path | None, as_json: bool) -> bool:
    """Check everything that a run needs and print a line for each; returns whether all that must work does."""
    checks: list[Callable[[], list[Finding]]] = [
        _packages,
        _devices,
        lambda: [_disk(out), *_storage(out)],
        lambda: _data(root),
        lambda: [_ray(address)],
        lambda: [_mlflow(tracking_uri)],
    ]
    findings: list[Finding] = []
    for check in checks:
        for found in check():
            finding = found._replace(text=without_credentials(found.text))
            findings.append(finding)
            if not as_json:
                mark = {True: "ok  ", False: "FAIL", None: "--  "}[finding.works]
                print(f"{mark}  {finding.name:<12} {finding.text}", flush=True)
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings]))
    return all(finding.works is not False for finding in findings)


def _packages() -> list[Finding]:
    found = provenance.versions()
    return [Finding("versions", True, ", ".join(f"{name} {version}" for name, version in found.items()))]


def _devices() -> list[Finding]:
    import torch

    from raydistill.precision import has_bfloat16

    machine = Finding("machine", True, provenance.machine())
    if not has_bfloat16("cuda" if torch.cuda.is_available() else "cpu"):
        text = f"{machine.text}: settings that ask for bfloat16 are computed in float32, in about twice the time"
        machine = machine._replace(text=text)
    if not torch.cuda.is_available():
        return [machine, Finding("GPU", None, "PyTorch sees none; everything runs on the CPU")]
    free, total = torch.cuda.mem_get_info()
    return [machine, Finding("GPU", True, f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free on the first")]


def _disk(out: Path) -> Finding:
    existing = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / 2**30:.1f} GiB free for {out}"
    return Finding(
        "disk", free >= LEAST_FREE, text if free >= LEAST_FREE else f"{text}; free some, or choose another --out"
    )


def _storage(out: Path) -> list[Finding]:
    if not storage.mirrored(out):
        return []
    try:
        storage.check(out)
    except RaydistillError as error:
        return [Finding("storage", False, str(error))]
    return [Finding("storage", True, f"{storage.shown(out)} can be written")]


def _data(root: Path | None) -> list[Finding]:
    def finding(row: Row) -> Finding:
        if row.status == "found":
            return Finding(row.name, True, f"{row.images} images at {row.where}")
        return Finding(row.name, False if row.status == "damaged" else None, row.how_to_get)

    return [finding(row) for row in describe(root) if row.status != "your own"]


def _ray(address: str | None) -> Finding:
    if address == "in-process":
        return Finding("Ray", None, "not used: --address in-process")
    from raydistill.runtime.on_ray import connect

    started = time.monotonic()
    try:
        with closing(connect(address)) as runtime:
            places = runtime.capacity(1, 0)
    except RaydistillError as error:
        return Finding("Ray", False, str(error))
    return Finding(
        "Ray", True, f"{places} trials of one core fit at once ({time.monotonic() - started:.0f} s to start)"
    )


def _mlflow(tracking_uri: str | None) -> Finding:
    if tracking_uri is None:
        return Finding("MLflow", True, "embedded: each run folder gets its own mlflow.db")
    from raydistill.track.to_mlflow import reachable

    try:
        return (
            Finding("MLflow", True, f"{tracking_uri} answers")
            if reachable(tracking_uri)
            else Finding(
                "MLflow",
                False,
                f"{tracking_uri} does not answer; runs are recorded in their folders and delivered later",
            )
        )
    except ConfigError as error:
        return Finding("MLflow", False, str(error))


def _text(value: int | None) -> str:
    return "" if value is None else str(value)
