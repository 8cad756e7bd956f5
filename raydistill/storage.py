"""Run folders in object storage: ``s3://BUCKET/PREFIX``, ``gs://BUCKET/PREFIX`` and what else fsspec knows.

What lies at an address is worked on in its mirror, a folder of the machine: ``s3://BUCKET/KEY`` is
``~/.cache/raydistill/mirror/s3/BUCKET/KEY`` (``$RAYDISTILL_CACHE/mirror/…`` where that is set). So a path says by itself
whether it stands for an object, and between machines, whose mirrors lie elsewhere, the address is handed on.

The store is the truth and a mirror its copy. What is written goes to the store first, an object at a time, each replaced
whole or not at all. What another machine may have written is fetched before it is read: small files of a whole tree at
once, tensors with the folder that is read. Paths outside the mirror are left alone, and fsspec is not imported for them.
"""

import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from raydistill.errors import ConfigError, EnvironmentIssue, FullDisk, without_credentials

MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"

ATTEMPTS = 7
"Of one request; the pauses between them double from one second to ``LONGEST_PAUSE``, a minute in all."
LONGEST_PAUSE = 16.0
READERS = 16
"Small objects that are read at once."

OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 30, "retries": {"total_max_attempts": 1}}}
}
"Who asks again is ``_ask``; with boto's own attempts and s3fs's beside it, one that hears nothing would take ten minutes."
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(.*)", re.DOTALL)
"With one slash it has been through a ``Path``."
LASTING = (PermissionError, ImportError, NotImplementedError, ValueError)
"What will be no better a second later."

Answer = TypeVar("Answer")


def place(given: str | Path) -> Path:
    """The folder or file in which ``given`` is worked on: itself, or the mirror of an address.

    Raises:
        ConfigError: an address with credentials in it, or not of the form ``SCHEME://BUCKET/PREFIX``.
    """
    found = ADDRESS.fullmatch(str(given))
    if found is None:
        return Path(given)
    shown = without_credentials(str(given))
    if shown != str(given):
        raise ConfigError(
            f"{shown}: the address holds a name or password, which others could read; leave them out and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what else its storage reads"
        )
    scheme, parts = found[1].lower(), found[2].rstrip("/").split("/")
    if scheme == "file" or any(part.startswith(".") or not re.fullmatch(r"[^\s?#*\[\]:]+", part) for part in parts):
        raise ConfigError(f"{shown}: write a folder, or SCHEME://BUCKET/PREFIX of plain names such as s3://bucket/runs")
    return mirror().joinpath(scheme, *parts)


def mirror() -> Path:
    """Where addresses are mirrored on this machine."""
    return Path(os.environ.get("RAYDISTILL_CACHE") or "~/.cache/raydistill").expanduser().resolve() / "mirror"


def address(path: Path) -> str:
    """What ``place`` makes this path of again, here or on another machine."""
    return _uri(path) or str(path.absolute())


def shown(path: Path) -> str:
    """A path for people: the address that it mirrors, if it does."""
    return _uri(path) or str(path)


def mirrored(path: Path) -> bool:
    """Whether the path stands for an object, or several."""
    return _uri(path) is not None


def check(path: Path) -> None:
    """Write, read and remove one small object, so that nothing is computed that could not be stored.

    Raises:
        EnvironmentIssue: the package is missing, the bucket too, or the store refuses or does not answer.
    """
    if mirrored(path):
        probe = path / f".probe-{uuid.uuid4().hex}"
        _ask(probe, lambda fs, key: fs.pipe_file(key, b"raydistill"), attempts=1)
        _ask(probe, lambda fs, key: fs.cat_file(key), attempts=1)
        _ask(probe, lambda fs, key: fs.rm_file(key), attempts=1)


def put(path: Path, data: bytes) -> None:
    """Store ``data`` as the object that ``path`` stands for."""
    if mirrored(path):
        _ask(path, lambda fs, key: fs.pipe_file(key, data))


def send(path: Path) -> None:
    """Store a file of the mirror that was written in some other way."""
    if mirrored(path):
        _ask(path, lambda fs, key: fs.put_file(str(path), key))


def put_folder(path: Path, fresh: Path) -> None:
    """Store the artefact in ``fresh`` as the folder ``path``; whoever reads finds the old one or the new one.

    The new tensors wait under a name of their content; the manifest, which has their checksum, makes them those of the
    folder; then they get the usual name, where a copy of the bucket made by other tools has them.
    """
    if not mirrored(path):
        return
    waiting = path / _waiting(checksum(fresh / TENSORS))
    _ask(waiting, lambda fs, key: fs.put_file(str(fresh / TENSORS), key))
    put(path / MANIFEST, (fresh / MANIFEST).read_bytes())
    with suppress(FileNotFoundError):  # a machine that stores the same content has moved it
        _ask(path, lambda fs, key: fs.cp_file(f"{key}/{waiting.name}", f"{key}/{TENSORS}"), read=True)
        _ask(waiting, lambda fs, key: fs.rm_file(key), read=True)


def delete(path: Path) -> None:
    """Remove an object, or all below a folder."""
    if mirrored(path):
        with suppress(FileNotFoundError):
            _ask(path, lambda fs, key: fs.rm(key, recursive=True), read=True)


def size(path: Path) -> int:
    """Bytes of all files below a folder."""
    if not mirrored(path):
        return sum(_bytes(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)
    return int(_ask(path, lambda fs, key: fs.du(key), read=True))


def _bytes(file: str) -> int:
    try:
        return os.lstat(file).st_size
    except FileNotFoundError:  # it was there a moment ago, such as the state of an expert in training
        return 0


def fetch(path: Path) -> None:
    """Bring what is small at ``path`` and below to the mirror, and remove there what the store has no more.

    Hidden files (locks, what is being written) are nobody else's, and tensors come with ``fetch_folder``.
    """
    if not mirrored(path):
        return
    found = _ask(path, _small_files, read=True)
    for name, data in found.items():
        file = path / name
        # A process here may be ahead of the store in a file that it appends to.
        if data is not None and not (file.is_file() and data and file.read_bytes().startswith(data)):
            _make(file, partial(Path.write_bytes, data=data))
    # A process here may remove some meanwhile, which ``rglob`` does not expect.
    here = [Path(folder, name) for folder, _, names in os.walk(path) for name in names] if path.is_dir() else [path]
    for file in here:
        inside = file.relative_to(path)
        if file.is_file() and not _hidden(inside) and _name(inside) not in found:
            file.unlink(missing_ok=True)
            with suppress(OSError):
                for folder in (folder for folder in file.parents if folder.is_relative_to(path)):
                    folder.rmdir()


def peek(path: Path) -> bytes | None:
    """An object as it stands in the store, the mirror left alone; ``None`` where there is none, or the store does not answer."""
    with suppress(FileNotFoundError, EnvironmentIssue):
        return _ask(path, lambda fs, key: bytes(fs.cat_file(key)), attempts=1, read=True)
    return None


def below(path: Path) -> list[str]:
    """Names of all objects below a folder as they stand in the store; none where it does not answer."""
    with suppress(FileNotFoundError, EnvironmentIssue):
        found = _ask(path, lambda fs, key: [one.removeprefix(key) for one in fs.find(key)], attempts=1, read=True)
        return [name.lstrip("/") for name in found]
    return []


def fetch_folder(path: Path) -> None:
    """Bring an artefact folder to the mirror as it stands in the store; where it has none, neither has the mirror."""
    if not mirrored(path):
        return
    with alone(mirror() / ".locks" / hashlib.sha256(bytes(path)).hexdigest()[:16]):
        for _ in range(3):  # another machine may replace it between our reading of the manifest and of the tensors
            try:
                manifest = _ask(path / MANIFEST, lambda fs, key: fs.cat_file(key), read=True)
            except FileNotFoundError:
                for gone in (path, path.with_name(f".{path.name}.old")):
                    shutil.rmtree(gone, ignore_errors=True)
                return
            wanted, tensors = _named_in(manifest), path / TENSORS
            _make(path / MANIFEST, partial(Path.write_bytes, data=manifest))
            if tensors.is_file() and known_checksum(tensors) == wanted:
                return
            for name in (_waiting(wanted), TENSORS):
                with suppress(FileNotFoundError):
                    _make(tensors, partial(_get, path / name))
                    break


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_checksum(path: Path) -> str:
    """As ``checksum``, computed once a process for each state of a file that is read again and again."""
    state = path.stat()
    return _checksum_of(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4096)
def _checksum_of(path: Path, changed: int, size: int) -> str:
    return checksum(path)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process of this machine holds the file ``lock``; a killed driver's workers live on for some seconds.

    Raises:
        EnvironmentIssue: the disk is full, or the folder cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise unwritable(lock, error) from error
    with open(lock, "w") as file:
        with suppress(OSError):  # a network disk without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def held(lock: Path) -> bool:
    """Whether a process of this machine is in ``alone(lock)``."""
    if not lock.exists():
        return False
    with open(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a network disk without locks
            pass
        return False


def unwritable(path: Path, error: Exception, way_out: str = "free space or choose another --out") -> EnvironmentIssue:
    """One line on a file or folder that cannot be written: a ``FullDisk`` where it is the disk of this machine's mirror."""
    full = _full(error)
    reason = full or getattr(error, "strerror", None) or str(error)
    if not path.is_relative_to(mirror()):
        return EnvironmentIssue(f"cannot write {path}: {reason}; {way_out}")
    kind = FullDisk if full else EnvironmentIssue
    return kind(f"cannot write {path}: {reason}; free space on {socket.gethostname()} or set RAYDISTILL_CACHE there")


def _full(error: Exception) -> str | None:
    """The system's words for a full disk where that is what happened; safetensors has them among its own, without the number."""
    for number in (errno.ENOSPC, errno.EDQUOT):
        if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
            return os.strerror(number)
    return None


def _uri(path: Path) -> str | None:
    root = mirror()
    if not path.is_relative_to(root) or path == root:
        return None
    scheme, *parts = path.relative_to(root).parts
    # A hidden folder is something that is being made here.
    return None if not parts or _hidden(PurePosixPath(*parts).parent) else f"{scheme}://{'/'.join(parts)}"


def _hidden(inside: PurePosixPath | Path) -> bool:
    return any(part.startswith(".") for part in inside.parts)


def _name(inside: Path) -> str:
    return "" if inside == Path() else inside.as_posix()


def _waiting(content: str) -> str:
    return f".{TENSORS}.{content[:16]}"


def _named_in(manifest: bytes) -> str:
    """The checksum of the tensors that a manifest belongs to; a damaged one is refused by who reads the folder."""
    try:
        return str(json.loads(manifest)["checksums"][TENSORS])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _small_files(fs: Any, key: str) -> dict[str, bytes | None]:
    """Name below ``key`` → content, of all objects there that are not hidden; ``None`` for tensors and what has just gone."""

    def read(name: str) -> bytes | None:
        if PurePosixPath(name).name == TENSORS:
            return None
        try:
            content: bytes = fs.cat_file(f"{key}/{name}" if name else key)
        except FileNotFoundError:
            return None
        return content

    try:
        found = [one.removeprefix(key).lstrip("/") for one in fs.find(key)]
    except FileNotFoundError:
        return {}
    names = [name for name in found if not _hidden(PurePosixPath(name))]
    with ThreadPoolExecutor(READERS) as readers:
        return dict(zip(names, readers.map(read, names), strict=True))


def _get(path: Path, into: Path) -> None:
    _ask(path, lambda fs, key: fs.get_file(key, str(into)), read=True)


def _make(path: Path, fill: Callable[[Path], object]) -> None:
    """Make a file of the mirror with ``fill``; whoever looks sees the old one or the new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        try:
            fill(Path(name))
            os.chmod(name, 0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unwritable(path, error) from error


def _ask(path: Path, act: Callable[[Any, str], Answer], attempts: int = ATTEMPTS, read: bool = False) -> Answer:
    """``act(file system, key)``, again after a pause where the store did not answer.

    Raises:
        FileNotFoundError: ``read``, and there is no such object.
        EnvironmentIssue: one line that says why it could not be done.
    """
    uri = _uri(path)
    assert uri is not None
    for attempt in range(attempts):
        try:
            import fsspec

            fs, key = fsspec.url_to_fs(uri, use_listings_cache=False, **OPTIONS.get(uri.split(":")[0], {}))
            if hasattr(fs, "retries"):
                fs.retries = 1
            return act(fs, key)
        except Exception as error:  # each store has its own
            if read and isinstance(error, FileNotFoundError):
                raise
            if _full(error):
                raise unwritable(path, error) from error
            if isinstance(error, (*LASTING, FileNotFoundError)) or attempt + 1 == attempts:
                raise _told(uri, error) from error
            time.sleep(min(2.0**attempt, LONGEST_PAUSE))
    raise AssertionError


def _told(uri: str, error: Exception) -> EnvironmentIssue:
    reason = " ".join(without_credentials(str(error)).split())[:200] or type(error).__name__
    if isinstance(error, ImportError):
        way_out = "install it on every node: pip install 'raydistill[s3]', for gs:// 'raydistill[gcs]'"
    elif isinstance(error, FileNotFoundError):
        way_out = "make the bucket first, or correct the address"
    elif isinstance(error, PermissionError) or "credential" in reason.lower():
        way_out = (
            "set credentials that may write there (s3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws or a role)"
        )
    elif isinstance(error, (ValueError, NotImplementedError)):
        way_out = "use s3://, gs:// or another storage that fsspec can write"
    else:
        way_out = "check the network and the endpoint (s3: AWS_ENDPOINT_URL); what was stored before is whole"
    return EnvironmentIssue(f"{uri}: {reason}; {way_out}")
