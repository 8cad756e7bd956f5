"""What is said to MLflow: runs are found by tag, numbers go in batches, files one by one, and time is bounded."""

import logging
import os
import shlex
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from raydistill.artifacts import MANIFEST, TENSORS, read_json
from raydistill.errors import ConfigError, RaydistillError, without_credentials
from raydistill.track.records import Number, Tail, files_below, reached, stamp

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from raydistill.data.load import TrainData

BATCH = 1000
"Metrics that MLflow takes in one request."
PARAM_LENGTH, TAG_LENGTH = 6000, 8000
SERVERS, DATABASES = ("http", "https", "databricks"), ("sqlite", "postgresql", "mysql", "mssql")
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # A request that the transport sends again could make a second run; the next pass first asks what has arrived.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}


@dataclass(slots=True)
class Shadow:
    """One MLflow run as it is known here: what it has, and up to where the unit's files were read."""

    run_id: str
    status: str
    start: int
    params: dict[str, str]
    tags: dict[str, str]
    latest: dict[str, tuple[int, float]]
    tail: Tail = field(default_factory=Tail)
    uploaded: dict[str, tuple[int, int]] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    seen: object = None
    "State of the unit's files when all of it was last delivered."

    @classmethod
    def of(cls, run: "Run", known: "Shadow | None" = None) -> "Shadow":
        """The shadow of an MLflow run; keeps what is known of the files delivered to this same run."""
        latest = {metric.key: (int(metric.step), float(metric.value)) for metric in run.to_proto().data.metrics}
        info, data = run.info, run.data
        fresh = cls(info.run_id, info.status, info.start_time, dict(data.params), dict(data.tags), latest)
        if known is not None and known.run_id == fresh.run_id:
            fresh.uploaded, fresh.record, fresh.seen = known.uploaded, known.record, known.seen
        return fresh


class LateError(RaydistillError):
    """The time for delivering is over."""


class Store:
    """One experiment of one MLflow store.

    Args:
        uri: a server or a database.
        experiment: made if it does not exist.
        artifacts: where a new experiment keeps files; ``None`` leaves it to the server.
    """

    def __init__(self, uri: str, experiment: str, artifacts: str | None) -> None:
        self.uri = uri
        self.experiment = experiment
        self.artifacts = artifacts
        self.deadline = float("inf")
        "``time.monotonic()`` after which no further step is begun."
        self._connected: MlflowClient | None = None
        self._experiment_id = ""

    @property
    def _client(self) -> "MlflowClient":
        """Where every step begins: MLflow is imported at the first one, because that takes seconds."""
        if self._connected is None:
            for name, value in ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            from mlflow import MlflowClient

            for name in ("mlflow", "alembic", "urllib3"):
                logging.getLogger(name).setLevel(logging.ERROR)
            self._connected = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        if time.monotonic() > self.deadline:
            raise LateError("the time for delivering is over")
        return self._connected

    def open(self) -> None:
        """Find or make the experiment."""
        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            self._experiment_id = self._client.create_experiment(self.experiment, self.artifacts)
        else:
            self._experiment_id = found.experiment_id

    def search(self, tag: str, value: str) -> list["Run"]:
        """All runs with a tag."""
        found: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], f"tags.`{tag}` = '{value}'", max_results=500, page_token=token
            )
            found.extend(page)
            token = page.token
            if not token:
                return found

    def only(self, runs: Sequence["Run"], known: Shadow | None = None) -> Shadow:
        """The run to keep; a request that the server answered too late may have made the same run twice."""
        kept = max(runs, key=lambda run: len(run.data.params) + len(run.data.metrics))
        for run in runs:
            if run is not kept:
                self.delete(run.info.run_id)
        return Shadow.of(kept, known)

    def create(self, name: str, began: int, tags: Mapping[str, str]) -> Shadow:
        """A new run that began at ``began`` (ms since 1970)."""
        return Shadow.of(self._client.create_run(self._experiment_id, began, dict(tags), name))

    def delete(self, run_id: str) -> None:
        """Put a run into MLflow's bin, from which it can be restored."""
        self._client.delete_run(run_id)

    def describe(self, shadow: Shadow, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Set params and tags. MLflow cannot change a param: a changed setting becomes a tag of its name."""
        from mlflow.entities import Param, RunTag

        cut = {name: text[:PARAM_LENGTH] for name, text in params.items()}
        changed = {name: text for name, text in cut.items() if shadow.params.get(name, text) != text}
        wanted = {**{name: text[:TAG_LENGTH] for name, text in tags.items()}, **changed}
        new_params = {name: text for name, text in cut.items() if name not in shadow.params}
        new_tags = {name: text for name, text in wanted.items() if shadow.tags.get(name) != text}
        if new_params or new_tags:
            self._client.log_batch(
                shadow.run_id,
                params=[Param(*item) for item in new_params.items()],
                tags=[RunTag(*item) for item in new_tags.items()],
            )
            shadow.params.update(new_params)
            shadow.tags.update(new_tags)

    def log(self, shadow: Shadow, numbers: Sequence[Number]) -> None:
        """Log numbers in batches. Their time derives from the run's start, so that a batch sent twice is stored once."""
        from mlflow.entities import Metric

        for first in range(0, len(numbers), BATCH):
            part = numbers[first : first + BATCH]
            metrics = [Metric(n.name, n.value, shadow.start + n.after, n.step) for n in part]
            self._client.log_batch(shadow.run_id, metrics=metrics)
            shadow.latest.update(reached(part))

    def upload(self, shadow: Shadow, files: Iterable[tuple[Path, str]]) -> None:
        """Upload the files that changed, one by one: MLflow's folder upload starts threads that hold up the process's end."""
        for path, name in files:
            now = stamp(path)
            if shadow.uploaded.get(name) != now:
                self._client.log_artifact(shadow.run_id, str(path), str(Path(name).parent) if "/" in name else None)
                shadow.uploaded[name] = now

    def log_real(self, shadow: Shadow, data: "TrainData", root: Path | None) -> None:
        """Note the real data, which the run is trained and selected on, as its datasets; their digests are of the images."""
        if "real" in shadow.uploaded or data.config is None:
            return
        client = self._client
        from mlflow.data import sources
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.numpy_dataset import from_numpy
        from mlflow.entities import Dataset, DatasetInput, InputTag

        from raydistill.data.load import build

        where = data.config.source
        with suppress(RaydistillError):  # they are read; what has become of their files since is no matter here
            found = build(data.config).find(root)
            where = found.where if found else where
        source = (
            sources.LocalArtifactDatasetSource(where)  # type: ignore[attr-defined]
            if Path(where).exists()
            else CodeDatasetSource({"mlflow.source.name": where})
        )
        inputs = []
        for context, part in (("training", data.train), ("validation", data.val)):
            made = from_numpy(part.images, source, part.labels, data.config.source, part.digest()[:16])
            inputs.append(DatasetInput(Dataset(**made.to_dict()), [InputTag("mlflow.data.context", context)]))
        client.log_inputs(shadow.run_id, inputs)
        shadow.uploaded["real"] = (0, 0)

    def log_distilled(self, shadow: Shadow, folder: Path, name: str) -> None:
        """Note a distilled set as a dataset of the run."""
        now = stamp(folder / TENSORS)
        if shadow.uploaded.get(name) == now:
            return
        client = self._client
        from mlflow.data import sources
        from mlflow.data.numpy_dataset import from_numpy
        from mlflow.entities import Dataset, DatasetInput, InputTag

        from raydistill.data.distilled import DistilledSet

        found = DistilledSet.load(folder)
        digest = read_json(folder / MANIFEST)["checksums"][TENSORS][:16]
        source = sources.LocalArtifactDatasetSource(str(folder))  # type: ignore[attr-defined]
        data = from_numpy(found.pixels.numpy(), source, found.labels.numpy(), name.replace("/", "-"), digest)
        dataset = DatasetInput(Dataset(**data.to_dict()), [InputTag("mlflow.data.context", "distilled")])
        client.log_inputs(shadow.run_id, [dataset])
        shadow.uploaded[name] = now

    def register(self, shadow: Shadow, folder: Path, name: str, tags: Mapping[str, str]) -> None:
        """Make a trained network a version of the registered model ``name``, once for each run.

        It is exported (PT2), not pickled, and takes pixels: float32 [n, K, H, W] in [0, 1] → logits [n, C].

        Args:
            shadow: the run that trained it.
            folder: of the network, see ``evaluate.trained``.
            name: of the registered model, made if it does not exist.
            tags: of the version.
        """
        now, client = stamp(folder / TENSORS), self._client
        if shadow.uploaded.get("model") == now:
            return
        if client.search_model_versions(f"run_id = '{shadow.run_id}'"):
            shadow.uploaded["model"] = now
            return
        from mlflow.exceptions import MlflowException

        with tempfile.TemporaryDirectory(prefix="raydistill-") as made:
            _export(folder, Path(made) / "model")
            self.upload(shadow, [(path, f"model/{inside}") for path, inside in files_below(Path(made) / "model")])
        with suppress(MlflowException):  # it exists
            client.create_registered_model(name)
        source = f"runs:/{shadow.run_id}/model"
        client.create_model_version(name, source, shadow.run_id, dict(tags))
        shadow.uploaded["model"] = now

    def set_status(self, shadow: Shadow, status: str, ended: int | None = None) -> None:
        """``RUNNING``, or an end (``FINISHED``, ``FAILED``, ``KILLED``) at ``ended`` (ms since 1970), else now."""
        if shadow.status == status:
            return
        if status == "RUNNING":
            self._client.update_run(shadow.run_id, status)
        else:
            self._client.set_terminated(shadow.run_id, status, ended)
        shadow.status = status


def _export(folder: Path, into: Path) -> None:
    """Write the network in MLflow's form, with its signature; takes tens of seconds."""
    import mlflow.pytorch
    import numpy as np
    import torch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from raydistill.evaluate import trained

    found = trained.load(folder)
    shape, classes = tuple(found.manifest["shape"]), len(found.manifest["classes"])
    kind = np.dtype(np.float32)
    # Without names: MLflow's server would make a mapping of named ones, which its PyTorch models refuse.
    signature = ModelSignature(Schema([TensorSpec(kind, (-1, *shape))]), Schema([TensorSpec(kind, (-1, classes))]))
    mlflow.pytorch.save_model(
        trained.deployed(found),
        str(into),
        signature=signature,
        input_example=np.zeros((2, *shape), np.float32),  # one image alone would fix the number of images
        pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", f"mlflow=={mlflow.__version__}"],
        serialization_format="pt2",
    )


def concerns_all(error: Exception) -> bool:
    """Whether an error is about the connection or the store; otherwise it is about one thing and others may still arrive."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        code = int(error.get_http_status_code())  # type: ignore[no-untyped-call]
        return not 400 <= code < 500 or code in (401, 403, 408, 429)
    return isinstance(error, LateError) or (isinstance(error, OSError) and not isinstance(error, FileNotFoundError))


def embedded_uri(run: Path) -> str:
    """The MLflow store inside a run folder: a database file, no server."""
    return f"sqlite:///{run.resolve() / 'mlflow.db'}"


def checked_uri(uri: str) -> str:
    """``uri`` with a relative file made absolute.

    Raises:
        ConfigError: it is neither a server nor a database.
    """
    if urlsplit(uri).scheme.split("+")[0] not in SERVERS + DATABASES:
        raise ConfigError(
            f"tracking_uri={without_credentials(uri)!r}: MLflow records to a server or a database; "
            "use http://HOST:PORT or sqlite:////FOLDER/mlflow.db"
        )
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).resolve()}"
    return uri


def artifact_location(uri: str, run: Path) -> str | None:
    """Where files go: beside a database file (MLflow would take the current folder); a server decides for itself."""
    if uri.startswith("sqlite:///"):
        return str(Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts")
    return None if urlsplit(uri).scheme in SERVERS else str(run.resolve().parent / "mlartifacts")


def ui_command(tracking_uri: str) -> str:
    """The line to type to look at the runs; for a server its address."""
    shown = without_credentials(tracking_uri)
    if urlsplit(tracking_uri).scheme in SERVERS:
        return shown
    return f"mlflow ui --backend-store-uri {shlex.quote(shown)} --host 127.0.0.1 --port 5000"


def reachable(uri: str) -> bool:
    """Whether a server answers within three seconds; a database file needs no server.

    Raises:
        ConfigError: neither a server nor a database.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import urlopen

    checked = without_credentials(checked_uri(uri))
    if urlsplit(checked).scheme not in ("http", "https"):
        return True
    try:
        with urlopen(checked.rstrip("/") + "/health", timeout=3):
            return True
    except HTTPError:
        return True  # it answered, if only to ask for credentials
    except (OSError, HTTPException):
        return False
