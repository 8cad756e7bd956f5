"""Which trial may start, with what; read from the run folder when a search starts or goes on, kept up to date after."""

from pathlib import Path

from raydistill.artifacts import RUNNING
from raydistill.errors import ArtifactError, ConfigError
from raydistill.search.definition import Search
from raydistill.search.objective import Assignment, trial_fingerprint
from raydistill.search.stopping import bars
from raydistill.search.trials import TrialRecord, read_trial, read_trials, trial_unit


class Ledger:
    """The trials of one search and what remains to be run.

    Args:
        search: the search; more trials, other workers and other sampling than in an earlier run are fine.
        run: its run folder.

    Raises:
        ConfigError: the folder holds trials whose results another search's settings made.
    """

    def __init__(self, search: Search, run: Path) -> None:
        self.search = search
        self.run = run
        self.records = {record.number: record for record in read_trials(run)}
        self._settled_below = self._known_below = 0
        for number, record in self.records.items():
            recorded = trial_unit(run, number).read().get("fingerprint")
            if recorded != trial_fingerprint(search, record.params):
                raise ConfigError(
                    f"{run}: trial {number} was run with other data, method, seed, stopping or validation settings than "
                    "this search has; give the search another name or --out, or restore the settings in its search.json"
                )

    def remaining(self) -> list[int]:
        """The trials not settled, in order; those that were interrupted are among them."""
        return [n for n in range(self.search.budget.trials) if not self._settled(n)]

    def ready(self, number: int) -> bool:
        """Whether all trials whose results ``number`` depends on are settled, and all before it handed out."""
        # Both only grow, so a search of many trials does not look at all of them for each.
        while self._settled(self._settled_below):
            self._settled_below += 1
        while self._known_below in self.records:
            self._known_below += 1
        return self._settled_below > number - self.search.budget.parallel and self._known_below >= number

    def assign(self, number: int) -> Assignment:
        """Hand out trial ``number``, which must be ready; an interrupted one keeps its settings."""
        if number not in self.records:
            from raydistill.search.study import suggest  # only who hands out needs Optuna; workers import this too

            params = suggest(self.search, number, list(self.records.values()))
            self.records[number] = TrialRecord(number, params, RUNNING, {})
        known = self.records
        return Assignment(number, known[number].params, bars(self.search.budget, number, known.values()))

    def settle(self, number: int) -> TrialRecord:
        """Read how trial ``number`` ended.

        Raises:
            ArtifactError: its unit does not say; the workers write somewhere else.
        """
        record = read_trial(trial_unit(self.run, number))
        if record is None or not record.settled:
            raise ArtifactError(
                f"trial {number} ended but {self.run} does not show it; put --out on a disk that all nodes share"
            )
        self.records[number] = record
        return record

    def _settled(self, number: int) -> bool:
        return number in self.records and self.records[number].settled
