"""Artefacts: whole or not at all whenever a process dies, checked when read, never unpickled."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raydistill import artifacts
from raydistill.artifacts import load_folder, read_json, save_folder, swap_in, write_json, write_text
from raydistill.errors import ArtifactError, EnvironmentIssue

OLD = {"images": torch.zeros(4, 3), "labels": torch.arange(4)}
NEW = {"images": torch.ones(4, 3), "labels": torch.arange(4)}
derandomized = settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def visible(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def refused(call: Callable[[], object], *words: str) -> None:
    """``call`` raises an ArtifactError in one line with ``words``."""
    with pytest.raises(ArtifactError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


# --- single files


def test_text_is_written_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.json"
    write_text(path, "first")
    write_text(path, "zweite ü")
    assert path.read_text(encoding="utf-8") == "zweite ü"
    assert visible(path.parent) == ["file.json"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_write_that_is_cut_short_leaves_the_old_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(error):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert visible(tmp_path) == ["file.txt"]


def test_a_full_disk_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    message = "No space left on device; free space or choose another --out$"
    with pytest.raises(EnvironmentIssue, match=message):
        write_text(tmp_path / "a", "x")
    with pytest.raises(EnvironmentIssue, match=message):
        save_folder(tmp_path / "b", "thing", {}, OLD)
    assert visible(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentIssue, match="cannot write"):
        write_text(tmp_path / "file" / "a", "x")
    with pytest.raises(EnvironmentIssue, match="cannot write"):
        save_folder(tmp_path / "file" / "b", "thing", {}, OLD)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_json_refuses_what_is_no_number_and_keeps_the_old_file(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, value)
    assert read_json(path) == {"x": 1}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"nope"])
def test_damaged_json_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    refused(lambda: read_json(path), str(path), "damaged")


def test_missing_json_is_said(tmp_path: Path) -> None:
    refused(lambda: read_json(tmp_path / "a.json"), "no a.json in", "is this a folder that raydistill wrote?")


# --- folders


@given(
    tensors=st.dictionaries(
        st.text("abc.0", min_size=1, max_size=4),
        st.tuples(
            st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.uint8, torch.int64, torch.bool]),
            st.lists(st.integers(0, 3), max_size=3),
        ),
        max_size=4,
    ),
    manifest=st.dictionaries(st.text("xyz", min_size=1), st.none() | st.integers(-9, 9) | st.text(max_size=4)),
)
@derandomized
def test_a_folder_reads_back(
    tmp_path: Path, tensors: dict[str, tuple[torch.dtype, list[int]]], manifest: dict[str, object]
) -> None:
    given_tensors = {k: torch.randint(0, 2, shape).to(dtype) for k, (dtype, shape) in tensors.items()}
    save_folder(tmp_path / "set", "thing", manifest, given_tensors)
    found, read = load_folder(tmp_path / "set", "thing")
    assert {k: found[k] for k in manifest} == manifest
    assert found["kind"] == "thing"
    assert found["schema"] == artifacts.SCHEMA
    assert set(read) == set(given_tensors)
    for name, tensor in given_tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    assert visible(tmp_path) == ["set"]
    assert visible(tmp_path / "set") == ["manifest.json", "tensors.safetensors"]


def test_views_parameters_and_strides_are_stored_as_they_look(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    given_tensors = {
        "first": whole[:2],
        "last": whole[1:],
        "turned": whole.T,
        "same": whole,
        "again": whole,
        "parameter": torch.nn.Parameter(whole.clone()),
    }
    save_folder(tmp_path / "set", "thing", {}, given_tensors)
    _, read = load_folder(tmp_path / "set", "thing")
    assert set(read) == set(given_tensors)
    assert all(torch.equal(read[name], tensor) for name, tensor in given_tensors.items())
    assert not any(t.requires_grad for t in read.values())


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_folder(tmp_path / name, "thing", {"x": 1}, OLD)
    for file in ("manifest.json", "tensors.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_folder_replaces_an_older_one(tmp_path: Path) -> None:
    save_folder(tmp_path / "set", "thing", {"x": 1}, OLD | {"extra": torch.zeros(1)})
    save_folder(tmp_path / "set", "thing", {"y": 2}, NEW)
    manifest, read = load_folder(tmp_path / "set", "thing")
    assert "x" not in manifest
    assert set(read) == set(NEW)
    assert visible(tmp_path) == ["set"]


def test_everyone_may_read_a_folder(tmp_path: Path) -> None:
    save_folder(tmp_path / "set", "thing", {}, OLD)
    assert (tmp_path / "set").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("where", ["save_file", "write_json", "checksum", "swap_in"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_while_saving_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: type[BaseException]
) -> None:
    save_folder(tmp_path / "set", "thing", {}, OLD)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(artifacts, where, fail)
    with pytest.raises(error):
        save_folder(tmp_path / "set", "thing", {}, NEW)
    monkeypatch.undo()
    assert torch.equal(load_folder(tmp_path / "set", "thing")[1]["images"], OLD["images"])
    assert visible(tmp_path) == ["set"]


@pytest.mark.parametrize("target", ["mkdtemp", "fsync", "chmod", "replace", "rmtree"])
@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_process_killed_anywhere_leaves_the_old_or_the_new_whole(
    tmp_path: Path, target: str, call: int, after: bool
) -> None:
    """Every step that touches the disk is a place to die, just before it or just after."""
    path = tmp_path / "set"
    save_folder(path, "thing", {}, OLD)
    child = os.fork()
    if child == 0:
        try:
            _die_at(target, call, after)
            save_folder(path, "thing", {}, NEW)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    images = load_folder(path, "thing")[1]["images"]
    assert torch.equal(images, OLD["images"]) or torch.equal(images, NEW["images"])
    save_folder(path, "thing", {}, NEW)
    assert torch.equal(load_folder(path, "thing")[1]["images"], NEW["images"])


def _die_at(target: str, call: int, after: bool) -> None:
    owner = {"mkdtemp": tempfile, "rmtree": shutil}.get(target, os)
    real = getattr(owner, target)
    seen = 0

    def mortal(*arguments: Any, **options: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == call and not after:
            os._exit(9)
        result = real(*arguments, **options)
        if seen == call:
            os._exit(9)
        return result

    setattr(owner, target, mortal)


def test_the_gap_between_the_two_renames_is_mended_by_whoever_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "set"
    save_folder(path, "thing", {}, OLD)
    save_folder(tmp_path / "fresh", "thing", {}, NEW)
    calls: list[Path] = []
    real = os.replace

    def second_fails(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(KeyboardInterrupt):
        swap_in(tmp_path / "fresh", path)
    monkeypatch.undo()
    assert not path.exists()
    assert artifacts.folder_exists(path)
    assert torch.equal(load_folder(path, "thing")[1]["images"], OLD["images"])
    assert path.exists()


def test_folder_exists(tmp_path: Path) -> None:
    assert not artifacts.folder_exists(tmp_path / "set")
    save_folder(tmp_path / "set", "thing", {}, OLD)
    assert artifacts.folder_exists(tmp_path / "set")


@given(st.integers(0, 10**6), st.integers(1, 255))
@derandomized
def test_any_changed_byte_is_noticed(tmp_path: Path, position: int, change: int) -> None:
    save_folder(tmp_path / "set", "thing", {}, OLD)
    file = tmp_path / "set" / "tensors.safetensors"
    content = bytearray(file.read_bytes())
    content[position % len(content)] ^= change
    file.write_bytes(content)
    refused(lambda: load_folder(tmp_path / "set", "thing"), "does not match its checksum", str(file))


@pytest.mark.parametrize("length", [0, 1, 8, 50])
def test_a_short_file_is_noticed(tmp_path: Path, length: int) -> None:
    save_folder(tmp_path / "set", "thing", {}, OLD)
    file = tmp_path / "set" / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    refused(lambda: load_folder(tmp_path / "set", "thing"), "damaged")


def test_foreign_bytes_with_the_right_checksum_are_refused(tmp_path: Path) -> None:
    save_folder(tmp_path / "set", "thing", {}, OLD)
    file = tmp_path / "set" / "tensors.safetensors"
    file.write_bytes(b"no tensors at all")
    manifest = read_json(tmp_path / "set" / "manifest.json")
    manifest["checksums"][file.name] = artifacts.checksum(file)
    write_json(tmp_path / "set" / "manifest.json", manifest)
    refused(lambda: load_folder(tmp_path / "set", "thing"), "damaged")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "set"
    refused(lambda: load_folder(path, "distilled set"), "no distilled set at", "there is no such folder")
    path.mkdir()
    refused(lambda: load_folder(path, "distilled set"), "no manifest.json in")
    save_folder(path, "distilled set", {}, OLD)
    (path / "tensors.safetensors").unlink()
    refused(lambda: load_folder(path, "distilled set"), "no tensors.safetensors", "make it again")


def test_another_kind_is_refused(tmp_path: Path) -> None:
    save_folder(tmp_path / "set", "checkpoint", {}, OLD)
    refused(lambda: load_folder(tmp_path / "set", "distilled set"), "holds a checkpoint, not a distilled set")
    write_json(tmp_path / "set" / "manifest.json", {"a": 1})
    refused(lambda: load_folder(tmp_path / "set", "distilled set"), "foreign manifest")
    write_json(tmp_path / "set" / "manifest.json", ["a"])
    refused(lambda: load_folder(tmp_path / "set", "distilled set"), "manifest.json is damaged (it holds no names)")


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_another_schema_is_refused(tmp_path: Path, schema: object) -> None:
    save_folder(tmp_path / "set", "thing", {}, OLD)
    manifest = read_json(tmp_path / "set" / "manifest.json")
    write_json(tmp_path / "set" / "manifest.json", {**manifest, "schema": schema})
    refused(lambda: load_folder(tmp_path / "set", "thing"), f"schema {schema}", f"reads schema {artifacts.SCHEMA}")


# --- names


def test_fingerprint_of_parts_depends_on_each_and_on_their_borders() -> None:
    made = {
        artifacts.fingerprint_of(*parts) for parts in (("a", "b"), ("ab",), ("b", "a"), ("a", "b", 0), ("a", "b", 1))
    }
    assert len(made) == 5
    assert all(len(f) == 16 for f in made)


def test_what_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    refused(lambda: read_json(tmp_path / "a.json"), "a.json cannot be read: Is a directory")
    refused(lambda: read_json(tmp_path / ("x" * 300) / "a.json"), "cannot be read: File name too long")
