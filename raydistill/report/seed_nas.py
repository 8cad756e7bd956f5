"""The cells of the seed report's four NAS tables as the run folders hold them: ours, its own, the difference."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from raydistill.nas.summary import summary
from raydistill.report import texts
from raydistill.report.nas_blocks import Seed, called, first_name
from raydistill.report.seed_cells import NOT_MEASURED, Found, Key, Part
from raydistill.report.seed_figures import nas_table

if TYPE_CHECKING:
    import pandas as pd


class NasCell(NamedTuple):
    """A row of a NAS table; ``ours`` and ``seconds`` are ``None`` where nothing was measured."""

    name: str
    ours: Any
    theirs: Any
    digits: int
    "Behind the point; 0: a network's name."
    protocol: str
    seconds: float | None
    "What the row's own number took to measure."
    means: str


def _nas_cells(part: Part | None, printed: Seed) -> list[NasCell]:
    """The five cells of one initialisation."""
    ours = None if part is None else summary(part.run.path)
    on_set = on_full = "–"
    among = each = "of validation images"
    winner = beside = ""
    if part is not None and ours is not None:
        config, made = part.run.search["nas"], part.run.distill
        rule = config["protocol"]["name"]
        on_set = f"{rule}, {config['protocol']['epochs']} epochs"
        full = ours.get("full") or {}
        epochs = texts.counted(full.get("epochs", config["confirm_epochs"]), "epoch")
        on_full = f"{rule}, {epochs} (the report: 50)"
        winner = f" {called(full['name'])}" if full else ""
        beside = texts.beside_text(full)
        among = f"of {ours['distinct']} architectures under {ours['names']} names, by validation images"
        each += f", trained on {made['ipc']} images a class after {made['iterations']} iterations"
        each += texts.beside_text(ours["ranking"][0])
    best, full = ours and ours["ranking"][0], (ours or {}).get("full")
    tested = full and _percent(full["accuracy"])
    seconds = full and full["seconds"]
    rows = (
        ("best network", best and best["name"], f"ConvNet{printed.best}", 0, on_set, None, among),
        (
            "its accuracy on the set %",
            best and 100 * best["accuracy"],
            printed.on_set,
            2,
            on_set,
            best and best["seconds"],
            each,
        ),
        (
            "search, seconds",
            ours and ours["seconds"],
            printed.search_seconds,
            1,
            on_set,
            None,
            "training and judging, sum over networks",
        ),
        (
            "its accuracy on all images %",
            tested,
            printed.on_full,
            2,
            on_full,
            seconds,
            f"of test images,{winner or ' the best'} trained on all training images{beside}",
        ),
        (
            "its training on all images, seconds",
            seconds,
            printed.full_seconds,
            1,
            on_full,
            None,
            "on the wall, that training",
        ),
    )
    return [NasCell(*row) for row in rows]


NAS_COLUMNS = ("init", "cell", "protocol", "ours", "report", "difference", "seconds", "means")


def nas_frames(found: Found, dataset: str, method: str) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """A NAS table for the file, and as texts for the page: five cells from real images, five from noise."""
    import pandas as pd

    plain, shown = [], []
    for init, printed in nas_table(dataset, method).items():
        for cell in _nas_cells(found.parts.get(Key(dataset, method, init).part), printed):
            numeric = isinstance(cell.ours, float)
            gap = cell.ours - cell.theirs if numeric else math.nan
            plain.append((init, cell.name, cell.protocol, cell.ours, cell.theirs, gap, cell.seconds, cell.means))
            text = f"{cell.ours:,.{cell.digits}f}" if numeric else called(cell.ours) if cell.ours else NOT_MEASURED
            shown.append(
                {
                    "set": f"from {init}",
                    "cell": cell.name,
                    "protocol": cell.protocol,
                    "ours": text,
                    "report": f"{cell.theirs:g}" if cell.digits else called(cell.theirs),
                    "difference": f"{gap:+,.{cell.digits}f}" if numeric else _same(cell.ours, cell.theirs),
                    "seconds": texts.seconds_text(cell.seconds),
                    "what it is": cell.means,
                }
            )
    return pd.DataFrame(plain, columns=list(NAS_COLUMNS)), pd.DataFrame(shown)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _same(value: Any, theirs: Any) -> str:
    return "–" if value is None else "the same" if first_name(value) == first_name(theirs) else "another"
