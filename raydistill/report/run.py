"""A run folder as the report reads it."""

from pathlib import Path
from typing import Any

from raydistill import storage
from raydistill.artifacts import Unit, folder_exists
from raydistill.data.distilled import DistilledSet
from raydistill.report import tables
from raydistill.report.blocks import command
from raydistill.search.trials import TrialRecord, best_trial, read_trials

INIT = {
    "real": "random real images",
    "noise": "noise",
    "kcenter": "real images chosen by k-center",
    "herding": "real images chosen by herding",
}
FINAL = Path("units/distill/final")


class Run:
    """A run folder, read once.

    Args:
        path: the folder.

    Raises:
        ArtifactError: it is no run folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path if path.name not in ("", "..") else path.resolve()
        self.search = tables.read_search(path)
        self.results = tables.read_results(path)
        self.trials = tables.trials_table(path)
        self.accuracy = tables.accuracy_table(path)
        self.final = Unit(path / FINAL)
        self.best = self._best()

    @property
    def space(self) -> dict[str, dict[str, Any]]:
        """Searched path → distribution."""
        return dict(self.search.get("space", {}))

    @property
    def chosen(self) -> dict[str, Any]:
        """Searched path → the value that the search chose; empty before it has."""
        return {} if self.best is None else dict(self.best.params)

    def _best(self) -> TrialRecord | None:
        records = read_trials(self.path)
        noted = (self.results.get("stages", {}).get("search") or {}).get("best") or {}
        chosen = [record for record in records if record.params == noted.get("params")]
        return chosen[0] if chosen else best_trial(records)

    @property
    def distill(self) -> dict[str, Any]:
        """The settings of the final distillation; before it has begun the search's own with the chosen values."""
        used = {**self.chosen, **self.search.get("final", {}), **self.final.read().get("params", {})}
        return {**self.search["distill"], **{path.removeprefix("distill."): value for path, value in used.items()}}

    @property
    def factor(self) -> int:
        """Of multi-formation."""
        return int(self.distill.get("factor", 1))

    def load(self, name: str) -> "DistilledSet | None":
        """The set stored as ``set`` or ``initial`` by the final distillation, if it is there."""
        folder = self.final.directory / name
        return DistilledSet.load(folder) if folder_exists(folder) else None

    def resume(self) -> str:
        """The command that does what is still missing."""
        return self.again("--resume")

    def again(self, *options: str) -> str:
        """The command that goes on in this very folder, even where it was renamed."""
        renamed = () if self.path.name == self.search["name"] else ("--set", f"name={self.path.name}")
        file, out = storage.shown(self.path / "search.json"), storage.shown(self.path.parent)
        return command("run", file, *renamed, *options, "--out", out)
