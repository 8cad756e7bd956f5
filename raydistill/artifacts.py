"""The one on-disk format: a folder with ``manifest.json`` and ``tensors.safetensors``; and the record of one unit of work.

Both are written atomically: whoever looks sees the whole old state or the whole new one, whenever a process is killed.
Nothing here unpickles anything, so artefacts from others are safe to read.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from raydistill import storage
from raydistill.errors import ArtifactError
from raydistill.storage import MANIFEST as MANIFEST
from raydistill.storage import TENSORS as TENSORS
from raydistill.storage import alone as alone
from raydistill.storage import checksum as checksum

SCHEMA = 1

Status = str
RUNNING, COMPLETED, DIVERGED, STOPPED, FAILED = "running", "completed", "diverged", "stopped", "failed"
"What became of a unit. ``diverged`` and ``stopped`` (early, by the scheduler) are results, ``failed`` is an error."


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, as ``write_bytes`` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically and durably, making its folder.

    Raises:
        EnvironmentIssue: the disk is full, or the folder or storage cannot be written.
    """
    storage.put(path, data)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise storage.unwritable(path, error) from error


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


AGAIN = "; delete it and run again with --resume"
"The way out of a damaged file that a run can write again."


def read_json(path: Path, way_out: str = AGAIN) -> dict[str, Any]:
    """Read a JSON document of named values.

    Args:
        path: the file.
        way_out: the end of the message where the file is damaged.

    Raises:
        ArtifactError: the file is missing, is not JSON, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            f"no {path.name} in {storage.shown(path.parent)}; is this a folder that raydistill wrote?"
        ) from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged ({error}){way_out}") from None
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} is damaged (it holds no names){way_out}")
    return found


def save_folder(path: Path, kind: str, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write an artefact folder atomically, replacing an older one.

    Args:
        path: the folder to make.
        kind: what it is, e.g. ``"distilled set"``; ``load_folder`` asks for it again.
        manifest: plain JSON values.
        tensors: name → tensor; copied to the CPU and made contiguous.
    """
    with _replacing(path) as fresh:
        # Real copies: safetensors refuses tensors that share memory, as views of one batch do.
        copies = {n: t.detach().to("cpu").clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}
        save_file(copies, fresh / TENSORS)
        with open(fresh / TENSORS, "rb") as file:
            os.fsync(file.fileno())
        stamped = {"schema": SCHEMA, "kind": kind, **manifest, "checksums": {TENSORS: checksum(fresh / TENSORS)}}
        write_json(fresh / MANIFEST, stamped)


def copy_folder(source: Path, path: Path) -> None:
    """Write the artefact folder ``source`` once more as ``path``, as ``save_folder`` does."""
    storage.fetch_folder(source)
    mend(source)
    with _replacing(path) as fresh:
        for name in (TENSORS, MANIFEST):
            shutil.copyfile(source / name, fresh / name)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``path`` when it has been filled."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    except OSError as error:
        raise storage.unwritable(path, error, "choose another --out") from error
    try:
        yield fresh
        os.chmod(fresh, 0o755)
        storage.put_folder(path, fresh)
        swap_in(fresh, path)
    except (OSError, SafetensorError) as error:
        raise storage.unwritable(path, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def swap_in(fresh: Path, path: Path) -> None:
    """Put folder ``fresh`` in the place of ``path``; a kill between the two renames leaves ``path.old``, which readers mend."""
    old = path.with_name(f".{path.name}.old")
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
    os.replace(fresh, path)
    shutil.rmtree(old, ignore_errors=True)


def mend(path: Path) -> None:
    """Put back what a kill between the two renames of ``swap_in`` has left aside."""
    old = path.with_name(f".{path.name}.old")
    if not path.exists() and old.exists():
        os.replace(old, path)


def load_folder(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read an artefact folder back and check it.

    Returns:
        (manifest, tensors on the CPU).

    Raises:
        ArtifactError: missing, of another kind or schema, or damaged.
    """
    storage.fetch_folder(path)
    mend(path)
    where = storage.shown(path)
    if not path.is_dir():
        raise ArtifactError(f"no {kind} at {where}: there is no such folder")
    manifest = read_json(path / MANIFEST)
    if manifest.get("kind") != kind:
        raise ArtifactError(f"{where} holds a {manifest.get('kind') or 'foreign manifest'}, not a {kind}")
    if manifest.get("schema") != SCHEMA:
        raise ArtifactError(f"{where} has schema {manifest.get('schema')}; this version reads schema {SCHEMA}")
    file = path / TENSORS
    if not file.is_file():
        raise ArtifactError(f"{where} has no {TENSORS}; it is incomplete, make it again")
    sums = manifest.get("checksums")
    if not isinstance(sums, dict) or checksum(file) != sums.get(TENSORS):
        raise ArtifactError(f"{file} does not match its checksum; it is damaged, make it again")
    try:
        return manifest, load_file(file)
    except SafetensorError as error:
        raise ArtifactError(f"{file} is damaged ({error}); make it again") from None


class Unit:
    """One piece of work that is done once: a trial, the final distillation, one evaluation, one NAS network.

    ``unit.json`` holds what it is and what became of it, ``history.jsonl`` its numbers over steps. A unit is named by what
    it computes. Trackers and the report read what was done from units alone.

    Args:
        directory: ``RUN/units/KIND/NAME``.
    """

    FINAL = frozenset({COMPLETED, DIVERGED, STOPPED})

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "unit.json"
        self.history_file = directory / "history.jsonl"

    @property
    def kind(self) -> str:
        """``experts``, ``trial``, ``distill``, ``rates``, ``evaluate``, ``nas`` or ``confirm``."""
        return self.directory.parent.name

    @property
    def name(self) -> str:
        """Unique among its kind in the run."""
        return self.directory.name

    def read(self) -> dict[str, Any]:
        """``unit.json``, or ``{}`` before the unit has begun."""
        return read_json(self.file) if self.file.exists() else {}

    @property
    def status(self) -> Status | None:
        """``running`` or a final status; ``None`` before the unit has begun."""
        return self.read().get("status")

    def begin(self, fingerprint: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Note that the unit runs; of an earlier attempt of the same fingerprint its notes are kept.

        Args:
            fingerprint: of everything that its result depends on.
            params: flat dotted names → scalars.
            tags: method, dataset, seed, machine kind, …
        """
        known = self.read()
        kept = {"notes": known["notes"]} if "notes" in known and known.get("fingerprint") == fingerprint else {}
        write_json(
            self.file,
            {
                "schema": SCHEMA,
                "kind": self.kind,
                "name": self.name,
                "fingerprint": fingerprint,
                "status": RUNNING,
                "params": dict(params),
                "tags": dict(tags),
                **kept,
            },
        )

    def note(self, text: str) -> None:
        """Record something to know about how the unit came about, such as that it was begun again with more memory."""
        known = self.read()
        write_json(self.file, {**known, "notes": [*known.get("notes", []), text]})

    def finish(self, status: Status, metrics: Mapping[str, float], **details: Any) -> None:
        """Record the end: final metrics (finite numbers) and any further JSON values (``step``, ``message``, ``seconds``)."""
        write_json(self.file, {**self.read(), "status": status, "metrics": dict(metrics), **details})

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append the numbers of one step (a line ``{"step": …, name: value}``)."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with open(self.history_file, "ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        # A kill cut the last line short; the new one must not be glued to it.
                        file.write(b"\n")
                file.write(json.dumps({"step": step, **numbers}).encode() + b"\n")
            storage.send(self.history_file)
        except OSError as error:
            raise storage.unwritable(self.history_file, error) from error

    def history(self) -> list[dict[str, float]]:
        """All logged steps in order; a line cut short by a kill is left out."""
        return lines_of(self.history_file.read_text(encoding="utf-8")) if self.history_file.exists() else []

    def rewind(self, step: int) -> None:
        """Forget what was logged after ``step``: the unit goes on from there."""
        self.rewrite([line for line in self.history() if line["step"] <= step])

    def rewrite(self, lines: Iterable[Mapping[str, float]]) -> None:
        """Put these lines, each with its ``step``, in the place of all that was logged."""
        write_text(self.history_file, "".join(json.dumps(line) + "\n" for line in lines))


def lines_of(history: str) -> list[dict[str, float]]:
    """The lines of a unit's history; one cut short by a kill is left out."""
    lines = []
    for line in history.splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


def remove(path: Path) -> None:
    """Remove a folder and all that is in it; nothing to do where there is none."""
    storage.delete(path)
    shutil.rmtree(path, ignore_errors=True)


def units(run: Path, kind: str | None = None) -> Iterator[Unit]:
    """The begun units of a run folder in name order, of one kind or of all."""
    for file in sorted((run / "units").glob(f"{kind or '*'}/*/unit.json")):
        yield Unit(file.parent)


def folder_exists(path: Path) -> bool:
    """Whether an artefact folder is there, or its older state that ``load_folder`` puts back."""
    return path.exists() or path.with_name(f".{path.name}.old").exists()


def fingerprint_of(*parts: str | int) -> str:
    """16 hex digits of several fingerprints or numbers together."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]
