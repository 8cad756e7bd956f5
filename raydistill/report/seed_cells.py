"""The cells of the twelve tables as the run folders hold them: ours, the seed report's, the difference.

What a run folder does not hold is ``NOT_MEASURED``; nothing stands in for it.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from raydistill.artifacts import COMPLETED, units
from raydistill.data.mhist import GENERATED
from raydistill.evaluate.scores import by_class, possible
from raydistill.report import texts
from raydistill.report.run import Run
from raydistill.report.seed_figures import TABLES, Printed, SeedTable
from raydistill.search.reproduction import Reproduction

if TYPE_CHECKING:
    import pandas as pd

NOT_MEASURED = "not measured"
CROSS, HARD, PLAIN = "cross", "hard", "plain"
"Further tables of a part: networks with rates of their own; hard labels; no augmentation."
SHORT = "seed"
"The protocol of the report's own 50 epochs."
TILES = "_tiles"
"What the names of parts on generated tiles end in; they stand beside MHIST and are never called so."


class Key(NamedTuple):
    """A distillation of the report, by which its part of the reproduction is found."""

    dataset: str
    method: str
    init: str

    @property
    def part(self) -> str:
        """``mnist_datadam``, ``mnist_datadam_noise``, …"""
        return f"{self.dataset}_{self.method}".lower() + ("_noise" if self.init == "noise" else "")


KEYS = tuple(Key(t.dataset, t.method, init) for t in TABLES if t.network != "AlexNet" for init in ("real", "noise"))


class Measured(NamedTuple):
    """One evaluation: a record of its unit, and the part that it is of."""

    part: str
    record: Mapping[str, Any]

    @property
    def percent(self) -> float:
        """Mean accuracy."""
        return 100 * float(self.record["metrics"]["accuracy_mean"])

    @property
    def text(self) -> str:
        """Mean ± standard deviation."""
        metrics = self.record["metrics"]
        spread = f" ± {texts.percent(metrics['accuracy_std'])}" if self.record["students"] > 1 else ""
        return texts.percent(metrics["accuracy_mean"]) + spread

    @property
    def ends(self) -> tuple[float, float] | None:
        """Of the 95 % interval, in per cent; ``None`` for one student."""
        metrics = self.record["metrics"]
        if "ci95_low" not in metrics:
            return None
        low, high = possible(metrics["ci95_low"], metrics["ci95_high"])
        return 100 * low, 100 * high

    @property
    def interval(self) -> str:
        """The interval as a text."""
        return "one student" if self.ends is None else f"95 %: {self.ends[0]:.2f} to {self.ends[1]:.2f}"

    @property
    def seconds(self) -> float:
        """Of training, a student."""
        return float(self.record["metrics"]["seconds"] / self.record["students"])


class Part:
    """A part of the reproduction whose run folder has begun."""

    def __init__(self, name: str, path: Path) -> None:
        self.run = Run(path)
        # Tiles stand in for MHIST's images where there is no copy of it; nothing made of them goes by its name.
        drawn = self.run.search["data"]["source"] == GENERATED and not name.endswith(TILES)
        self.name = name + TILES if drawn else name
        found = [unit.read() for unit in units(path, "evaluate")]
        self.records = [record for record in found if record.get("status") == COMPLETED]
        self.images = self.run.load("set")

    @property
    def soft(self) -> bool:
        """Whether the set has labels of its own."""
        return self.run.distill.get("labels") == "soft"

    def find(self, arm: str, network: str, table: str) -> Measured | None:
        """The evaluation of an arm; ``table`` is a further table's name, ``SHORT``, or empty for the main table."""
        for record in self.records:
            if (record["set"], record["network"]) != (arm, network):
                continue
            own = record.get("table", "")
            if own == table or (table == SHORT and record["protocol"] == SHORT):
                return Measured(self.name, record)
        return None

    def draws(self, arm: str, table: str) -> Any:
        """What students of real images depend on: data and seed, and but for ``whole`` number and protocol."""
        evaluate = self.run.search["evaluate"]
        protocol = evaluate["also"].get(table, evaluate)["protocol"]
        about = self.run.search["data"], self.run.search["seed"]
        return *about, *(() if arm == "whole" else (self.run.distill["ipc"], protocol))

    def steps(self, record: Mapping[str, Any]) -> int | None:
        """Steps of an evaluation's students, by its passes and batch; ``None`` before the set is there."""
        if self.images is None:
            return None
        made = record["set"] in ("distilled", "initial")  # one stored image may be several
        count = len(self.images if made else self.images.pixels)
        return int((record["epochs"] + 1) * math.ceil(count / record["params"]["batch"]))


class Found:
    """What there is of a reproduction.

    Args:
        whole: the reproduction, at its full length.
        out: where its parts' run folders are.
        given: how its file was named on the command line.
        options: further ones of the commands that measure what is missing: places, and what the parts were run with.
        own: part → further ones of its commands alone.
    """

    def __init__(
        self, whole: Reproduction, out: Path, given: str, options: str = "", own: Mapping[str, str] | None = None
    ) -> None:
        self.whole, self.out, self.given, self.options, self.own = whole, out, given, options, own or {}
        folders = {name: out / search.name for name, search in whole.parts.items()}
        begun = [Part(name, path) for name, path in folders.items() if (path / "search.json").exists()]
        self.parts = {part.name: part for part in begun}

    def command(self, *parts: str, settings: tuple[str, ...] = ()) -> str:
        """The command lines that measure these parts."""
        names = [part if part in self.whole.parts else part.removesuffix(TILES) for part in parts]
        sets = [f"--set {setting}" for setting in settings]  # of one setting the last counts
        lines = [
            (f"raydistill run {self.given}:{part} --resume", self.options, self.own.get(part, ""), *sets)
            for part in dict.fromkeys(names)
        ]
        return "\n".join(" ".join(filter(None, words)) for words in lines)

    def distilled(self, key: Key, network: str, table: str, tiles: bool = False) -> Measured | None:
        """Students of the distilled set."""
        part = self.parts.get(key.part + (TILES if tiles else ""))
        return None if part is None else part.find("distilled", network, table)

    def beside(self, key: Key, arm: str, network: str, table: str) -> Measured | None:
        """Students of real images, which are the same for every part of a dataset; of whichever part has them.

        ``initial`` is that of the same method from real images: random images with the method's labels. A part that was run
        with other settings of the data, another seed, number of images or protocol than the key's own has others.
        """
        own = self.parts.get(key.part)
        for part in self.parts.values():
            of = part.run.search["data"]["source"], part.run.distill["method"], part.run.distill["init"]
            alike = of[0] == key.dataset and (arm != "initial" or of[1:] == (key.method, "real"))
            if own is not None:
                alike = alike and part.draws(arm, table) == own.draws(arm, table)
            if alike and not part.name.endswith(TILES) and (found := part.find(arm, network, table)):
                return found
        return None

    def whole_set(self, key: Key, network: str) -> Measured | None:
        """A network trained on all images, in whichever table."""
        tables = ("", CROSS, SHORT, PLAIN)
        return next((found for table in tables if (found := self.beside(key, "whole", network, table))), None)


class Row(NamedTuple):
    """A row of one of the eight tables of accuracies."""

    set: str
    protocol: str
    ours: Measured | None
    theirs: Printed | None
    part: str
    "What measures it."
    means: str


def rows(found: Found, table: SeedTable) -> Iterator[Row]:
    """The rows of a table: all images, from noise, from real images, and random real images beside."""
    first = Key(table.dataset, table.method, "real")
    long = CROSS if table.network == "AlexNet" else ""
    data = Key(table.dataset, "DataDAM", "real")
    ours = found.whole_set(first, table.network)
    # As in the released codes, a protocol of E epochs makes E + 1 passes.
    told = "" if ours is None else f" in {ours.record['epochs'] + 1} passes (the report: 50 epochs)"
    yield Row(
        "full", _protocol(ours, found, None), ours, table.full, data.part, f"trained on all training images{told}"
    )
    for init, theirs in (("noise", table.noise), ("real", table.real)):
        key = Key(table.dataset, table.method, init)
        for tiles in (False, True):
            part = key.part + (TILES if tiles else "")
            if tiles and part not in found.parts:
                continue
            for which in (SHORT, long):
                ours = found.distilled(key, table.network, which, tiles)
                label = f"from {init}, generated tiles" if tiles else f"from {init}"
                yield Row(
                    label,
                    _protocol(ours, found, which),
                    ours,
                    None if tiles else theirs,
                    part,
                    _about(found, part, ours),
                )
    for which in (SHORT, long):
        ours = found.beside(first, "random", table.network, which)
        means = "as many random real images, nothing distilled" + _steps(found, ours)
        yield Row("random real images", _protocol(ours, found, which), ours, None, data.part, means)


def _protocol(ours: Measured | None, found: Found, which: str | None) -> str:
    if ours is None:
        main = next(iter(found.whole.parts.values())).evaluate.protocol.name
        return {None: "–", "": main, CROSS: "rate chosen, long"}.get(which, SHORT)
    rate = f", rate {ours.record['lr']:.3g} {ours.record.get('lr_is', 'chosen')}" if "lr" in ours.record else ""
    return f"{ours.record['protocol']}, {texts.counted(ours.record['epochs'], 'epoch')}{rate}"


def _about(found: Found, part: str, ours: Measured | None) -> str:
    there = found.parts.get(part)
    if there is None:
        return "distilled images"
    distill = there.run.distill
    made = f"{distill['ipc']} images a class after {distill['iterations']} iterations"
    return made + (", soft labels" if there.soft else "") + _steps(found, ours)


def _steps(found: Found, ours: Measured | None) -> str:
    steps = None if ours is None else found.parts[ours.part].steps(ours.record)
    return "" if steps is None else f"; students take {steps:,} steps"


COLUMNS = ("set", "protocol", "ours", "report", "difference", "seconds", "report_seconds", "students", "means")


def frames(found: Found, table: SeedTable) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """A table for the file (per cent, NaN where there is nothing), and as texts for the page."""
    import pandas as pd

    plain, shown = [], []
    of_two = next(
        (row.ours.record for row in rows(found, table) if row.ours and "auc" in row.ours.record["metrics"]), None
    )
    nothing = dict.fromkeys(by_class(of_two["metrics"], of_two["classes"]), math.nan) if of_two else {}
    for row in rows(found, table):
        ours, theirs = row.ours, row.theirs
        value, printed = (
            math.nan if one is None else one for one in (ours and ours.percent, theirs and theirs.accuracy)
        )
        seconds, students = (math.nan, 0) if ours is None else (ours.seconds, ours.record["students"])
        gap = value - printed
        told = (
            row.set,
            row.protocol,
            value,
            printed,
            gap,
            seconds,
            theirs.seconds if theirs else "",
            students,
            row.means,
        )
        beside = nothing | (by_class(ours.record["metrics"], ours.record.get("classes", ())) if ours else {})
        plain.append(dict(zip(COLUMNS, told, strict=True)) | {name: 100 * number for name, number in beside.items()})
        text = {
            "trained on": row.set,
            "protocol": row.protocol,
            "ours %": NOT_MEASURED if ours is None else ours.text,
            "report %": "–" if theirs is None else f"{theirs.accuracy:g}",
            "difference": "–" if math.isnan(gap) else f"{gap:+.2f}",
        }
        text |= texts.two_class(beside)
        text["seconds a student"] = texts.seconds_text(seconds)
        text["report, s"] = (theirs.seconds if theirs else "") or "–"
        text["students"] = str(students or "–")
        shown.append({**text, "what it is": row.means})
    return pd.DataFrame(plain, columns=[*COLUMNS, *nothing]), pd.DataFrame(shown)
