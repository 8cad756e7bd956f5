"""Tracking as a projection of the run folder: one parent run for the search, one child run for each unit of work.

Work units write ``unit.json`` and ``history.jsonl``; one thread in the driver, the only writer, reads them and delivers what
MLflow does not have yet. So the run folder is the buffer: a tracking server that fails or stalls slows nothing down, and
what it missed is delivered by a later pass or a later start. What was delivered is asked from MLflow (runs are found by
tag, metrics compared by step), so a kill at any moment leaves neither a second run for a unit nor a step twice.
"""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raydistill.artifacts import COMPLETED, DIVERGED, FAILED, RUNNING, STOPPED, Unit, read_json, units, write_json
from raydistill.config import Scalar, fingerprint
from raydistill.data.load import TrainData
from raydistill.errors import ArtifactError, RaydistillError, without_credentials
from raydistill.track import records
from raydistill.track.records import public, stamp
from raydistill.track.to_mlflow import Shadow, Store, artifact_location, checked_uri, concerns_all, embedded_uri

PERIOD = 2.0
"Seconds between two passes; after a pass that failed the pause doubles, up to ``LONGEST``."
LONGEST = 60.0
SHARE = 9.0
"""A pass looks at every unit; the pause after it is at least this many times as long as that keeps the processor busy, so that
many units slow nothing down. Waiting for a server does not count."""
ENDED = {COMPLETED: "FINISHED", STOPPED: "FINISHED", DIVERGED: "FAILED", FAILED: "FAILED"}
SIDECAR = "tracking.json"
OF_SET = frozenset({"evaluate", "rates", "nas", "confirm"})
"Kinds of units that are about the final distilled set."
PARENT, RUN, UNIT, KIND = "mlflow.parentRunId", "raydistill.run", "raydistill.unit", "raydistill.kind"
FINGERPRINT, MARK = "raydistill.fingerprint", "raydistill.mark"
"The mark stands for all that a finished unit delivers; it counts only on a run that has ended."


@dataclass(frozen=True, slots=True)
class Delivery:
    """What has become of the numbers of a run folder.

    Attributes:
        delivered: everything in the run folder is in MLflow.
        run_id: of the parent run; ``None`` if MLflow was never reached.
        experiment: its name.
        tracking_uri: where, without credentials.
        pending: units of which something is not yet delivered.
        message: one line for people.
    """

    delivered: bool
    run_id: str | None
    experiment: str
    tracking_uri: str
    pending: int
    message: str


class Tracking:
    """Delivers a run folder to MLflow from a background thread; nothing that MLflow does raises here or delays the work.

    Args:
        run: the run folder; its name becomes the parent run's.
        run_key: what identifies this run folder for ever; the parent run is found again by it.
        experiment: MLflow experiment, made if it does not exist.
        tracking_uri: a server (``http://HOST:PORT``) or a database (``sqlite:////FILE``); ``None``: ``RUN/mlflow.db``.
        params: the resolved search, dotted name → value.
        tags: method, dataset, ipc, init, git_commit, machine, seed.
        data: the real data, noted as the search's input.
        data_root: where they were looked for first.

    Raises:
        ConfigError: ``tracking_uri`` is neither a server nor a database.
    """

    def __init__(
        self,
        run: Path,
        *,
        run_key: str,
        experiment: str,
        tracking_uri: str | None = None,
        params: Mapping[str, Scalar] | None = None,
        tags: Mapping[str, str] | None = None,
        data: TrainData | None = None,
        data_root: Path | None = None,
    ) -> None:
        self.run = run.resolve()
        self.run_key = run_key
        self.params = public(params or {})
        self.tags = public(tags or {})
        self.data, self.data_root = data, data_root
        uri = checked_uri(tracking_uri) if tracking_uri else embedded_uri(self.run)
        self.tracking_uri = without_credentials(uri)
        self._store = Store(uri, experiment, artifact_location(uri, self.run))
        self._parent: Shadow | None = None
        self._children: dict[str, Shadow] = {}
        self._asked = False
        self._problem: str | None = "not yet tried"
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._status, self._timeout = "FINISHED", 0.0
        self._remembered: Delivery | None = None
        self._earlier_run_id = _earlier_run_id(self.run / SIDECAR, self.tracking_uri)

    def start(self) -> None:
        """Deliver from now on, every few seconds, in a daemon thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="raydistill-tracking", daemon=True)
            self._thread.start()

    def close(self, timeout: float = 60.0, status: str = "FINISHED") -> Delivery:
        """Deliver the rest, end all runs, and say how it went; returns after ``timeout`` seconds at the latest.

        Args:
            timeout: seconds; what does not arrive in time stays in the run folder for a later start.
            status: of the parent run: ``FINISHED``, ``FAILED`` or ``KILLED``. A unit that still runs becomes ``KILLED``.
        """
        if not self._closing.is_set():
            self._status, self._timeout = status, timeout
            self._store.deadline = time.monotonic() + timeout
            self._closing.set()
            self.start()
        if self._thread is not None:
            self._thread.join(max(0.0, self._store.deadline - time.monotonic()))
            if self._thread.is_alive():
                self._problem = f"no answer within {self._timeout:g} s"
        return self._delivery()

    def sync(self) -> Delivery:
        """One pass: deliver whatever MLflow does not have yet. The thread calls it; by hand only where none was started."""
        try:
            self._pass(closing=self._closing.is_set())
            self._problem = None
        except Exception as error:  # whatever a tracker does must not end a search
            self._asked = False
            self._problem = self._explain(error)
        delivery = self._delivery()
        self._remember(delivery)
        return delivery

    def _loop(self) -> None:
        pause = PERIOD
        while not self._closing.wait(pause):
            began = time.thread_time()
            self.sync()
            pause = PERIOD if self._problem is None else min(2 * pause, LONGEST)
            pause = max(pause, SHARE * (time.thread_time() - began))
        if not self.sync().delivered and time.monotonic() + 1 < self._store.deadline:
            time.sleep(1)
            self.sync()

    def _pass(self, closing: bool) -> None:
        if not self._asked or self._parent is None:
            self._ask()
        parent = self._parent
        assert parent is not None
        problems: list[Exception] = []
        self._store.set_status(parent, "RUNNING")
        self._store.describe(parent, self.params, self.tags)
        for unit in units(self.run):
            with _collecting(problems):
                self._deliver(parent, unit, closing)
        if closing:  # before what may take longer than there is time: MLflow takes files of runs that have ended too
            for child in self._children.values():
                if child.status == "RUNNING":  # its folder is gone or cannot be read
                    self._store.set_status(child, "KILLED")
            self._store.set_status(parent, self._status)
        with _collecting(problems):
            self._summarise(parent)
        if problems:
            raise problems[0]

    def _ask(self) -> None:
        """Ask MLflow what it has of this run folder, and make the parent run if there is none."""
        store = self._store
        store.open()
        runs = store.search(RUN, self.run_key)
        if runs:
            parent = store.only(runs, self._parent)
        else:
            parent = store.create(self.run.name, _now(), {**self.tags, RUN: self.run_key, KIND: "search"})
        groups: dict[str, list[Any]] = {}
        for run in store.search(PARENT, parent.run_id):
            groups.setdefault(run.data.tags.get(UNIT, ""), []).append(run)
        groups.pop("", None)  # made by others
        self._children = {name: store.only(group, self._children.get(name)) for name, group in groups.items()}
        self._parent, self._asked = parent, True

    def _deliver(self, parent: Shadow, unit: Unit, closing: bool) -> None:
        seen, child = _seen(unit), self._children.get(_key(unit))
        if child is not None and child.seen == seen and not closing:
            return
        record = unit.read()
        child = self._child(parent, unit, record, child)
        child.record = record
        if record["status"] == RUNNING:
            self._deliver_running(child, unit, "KILLED" if closing else "RUNNING")
        else:
            self._deliver_ended(child, unit, ENDED.get(record["status"], "FAILED"))
        child.seen = seen

    def _child(self, parent: Shadow, unit: Unit, record: Mapping[str, Any], child: Shadow | None) -> Shadow:
        """The unit's run, made if there is none; a run of other work under the same name is deleted."""
        key, mark = _key(unit), str(record["fingerprint"])
        if child is not None and child.tags.get(FINGERPRINT) != mark:
            self._store.delete(child.run_id)
            child = None
        if child is None:
            began = _modified(unit.file) - round(1000 * (record.get("seconds") or 0))
            tags = {PARENT: parent.run_id, UNIT: key, KIND: unit.kind, FINGERPRINT: mark}
            child = self._children[key] = self._store.create(key, began, tags)
        return child

    def _deliver_running(self, child: Shadow, unit: Unit, status: str) -> None:
        if status == "RUNNING":
            self._store.set_status(child, status)
        tags = {**self.tags, **records.tags_of(child.record)}
        self._store.describe(child, {**self.params, **self._settings(unit, child.record)}, tags)
        self._store.log(child, records.new_numbers(child.tail.read(unit.history_file), child.latest))
        self._store.set_status(child, status)

    def _settings(self, unit: Unit, record: Mapping[str, Any]) -> dict[str, str]:
        """What a unit has beside, or in the place of, the search's settings: its own, and those that made the set it is of."""
        made: Mapping[str, Any] = {}
        if unit.kind in OF_SET:
            made = Unit(self.run / "units" / "distill" / "final").read().get("params", {})
        return public({**made, **records.settings_of(record)})

    def _deliver_ended(self, child: Shadow, unit: Unit, status: str) -> None:
        files = _files(unit)
        mark = fingerprint([child.record, [(name, *stamp(path)) for path, name in files]])
        if child.status == status and child.tags.get(MARK) == mark:
            return
        self._deliver_running(child, unit, status if child.status == status else "RUNNING")
        self._store.log(child, records.final_numbers(child.record, child.latest))
        self._store.set_status(child, status, _modified(unit.file))
        self._store.upload(child, files)
        self._store.describe(child, {}, {MARK: mark})

    def _version_tags(self, winner: Shadow) -> dict[str, str]:
        """What a registered model is of, and the distilled set that chose it."""
        tags = {
            "network": str(winner.record["network"]),
            "test_accuracy": str(winner.record["metrics"]["test_accuracy"]),
        }
        chosen_by = self._children.get("distill/final")
        if chosen_by is not None:
            tags["distilled_set"] = f"runs:/{chosen_by.run_id}/set"
        return {f"raydistill.{name}": text for name, text in tags.items()}

    def _summarise(self, parent: Shadow) -> None:
        """What belongs to the search as a whole: its best and final accuracies, its report, the distilled sets."""
        known = [(unit, self._children[_key(unit)].record) for unit in units(self.run) if _key(unit) in self._children]
        self._store.log(parent, records.summary_numbers(known, parent.latest))
        if self.data is not None:
            self._store.log_real(parent, self.data, self.data_root)
        files = [(self.run / name, name) for name in ("search.json", "results.json") if (self.run / name).is_file()]
        files += [(path, f"report/{name}") for path, name in records.files_below(self.run / "report")]
        for folder in records.distilled_sets(known):
            name = f"distilled/{folder.parent.name}"
            files += [(path, f"{name}/{inside}") for path, inside in records.files_below(folder)]
            self._store.log_distilled(parent, folder, name)
        self._store.upload(parent, files)
        tested = [
            unit for unit, record in known if unit.kind == "confirm" and "test_accuracy" in record.get("metrics", {})
        ]
        if tested:  # several where more were confirmed later
            children = {unit: self._children[_key(unit)] for unit in tested}
            best = max(tested, key=lambda unit: children[unit].record["metrics"]["val_accuracy"])
            folder, tags = best.directory / "network", self._version_tags(children[best])
            self._store.register(children[best], folder, self._store.experiment, tags)

    def _delivery(self) -> Delivery:
        closing, everything = self._closing.is_set(), list(units(self.run))
        pending = 0
        for unit in everything:
            child = self._children.get(_key(unit))
            if child is None or child.seen != _seen(unit) or (closing and child.status == "RUNNING"):
                pending += 1
        if self._problem is None:
            message = f"recorded in MLflow experiment {self._store.experiment!r} at {self.tracking_uri}"
        else:
            message = (
                f"{pending} of {len(everything)} units are not wholly in MLflow at {self.tracking_uri} ({self._problem}); "
                "their numbers are kept in the run folder and delivered by the next start with --resume"
            )
        return Delivery(
            delivered=self._problem is None and pending == 0,
            run_id=self._parent.run_id if self._parent else self._earlier_run_id,
            experiment=self._store.experiment,
            tracking_uri=self.tracking_uri,
            pending=pending,
            message=message,
        )

    def _remember(self, delivery: Delivery) -> None:
        """Note where the numbers are, for people and for a start at which MLflow cannot be asked."""
        if delivery == self._remembered:
            return
        try:
            write_json(self.run / SIDECAR, asdict(delivery))
            self._remembered = delivery
        except RaydistillError:
            return  # a full disk is for the work to report

    def _explain(self, error: BaseException) -> str:
        """One line; of a connection that failed the cause ("Connection refused"), which MLflow wraps in pages of text."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError) and cause.strerror:
                return cause.strerror + (f": {cause.filename}" if cause.filename else "")
            cause = cause.__cause__ or cause.__context__
        text = str(error).replace(self._store.uri, self.tracking_uri).strip() or type(error).__name__
        line = without_credentials(text).splitlines()[0]
        return line if len(line) <= 200 else line[:197] + "..."


@contextmanager
def _collecting(problems: list[Exception]) -> Iterator[None]:
    """Let the other units go on when one is damaged or refused; whatever concerns the connection passes through."""
    try:
        yield
    except Exception as error:
        if concerns_all(error):
            raise
        problems.append(error)


def _key(unit: Unit) -> str:
    return f"{unit.kind}/{unit.name}"


def _seen(unit: Unit) -> object:
    """Changes when anything of the unit does: a file is replaced or added (the folder) or the history grows."""
    return stamp(unit.directory), stamp(unit.file), stamp(unit.history_file)


def _files(unit: Unit) -> list[tuple[Path, str]]:
    """What is uploaded with a unit, and as what: pictures, and the distilled set where it is a result."""
    files = [(path, name) for path, name in records.files_below(unit.directory) if re.fullmatch(r"[^/]+\.png", name)]
    if unit.kind == "distill":
        files += [(path, f"set/{name}") for path, name in records.files_below(unit.directory / "set")]
    return files


def _modified(file: Path) -> int:
    return stamp(file)[0] // 1_000_000


def _now() -> int:
    return time.time_ns() // 1_000_000


def _earlier_run_id(sidecar: Path, tracking_uri: str) -> str | None:
    try:
        noted = read_json(sidecar)
        return str(noted["run_id"]) if noted["run_id"] and noted["tracking_uri"] == tracking_uri else None
    except (ArtifactError, KeyError, TypeError):
        return None
