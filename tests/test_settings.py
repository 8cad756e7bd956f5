"""``raydistill settings``, and that there is something to say of every field."""

import ast
import importlib
import json
import pkgutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import raydistill
from raydistill import definitions, settings
from raydistill.config import Config
from tests.tiny import call, write_search

ROOT = Path(raydistill.__file__).parent


def classes(of: type[Config] = Config) -> Iterator[type[Config]]:
    for one in of.__subclasses__():
        yield one
        yield from classes(one)


def test_every_field_of_every_config_has_a_docstring() -> None:
    for module in pkgutil.walk_packages(raydistill.__path__, "raydistill."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    own = [one for one in classes() if one.__module__.startswith("raydistill.")]
    assert len(own) > 15
    bare = [f"{one.__qualname__}.{name}" for one in own for name, f in one.model_fields.items() if not f.description]
    assert bare == []


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_fields_docstring_is_one_string(path: Path) -> None:
    """Of two strings in a row, which Python does not join where they are statements, pydantic would take the first."""
    for one in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        body = one.body if isinstance(one, ast.ClassDef) else []
        texts = [isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) for line in body]
        assert not any(map(all, pairwise(texts))), one


def test_every_setting_of_a_search_is_listed_once_with_its_value(tmp_path: Path) -> None:
    search = definitions.load(str(write_search(tmp_path)))
    found = {one.path: one for one in settings.settings(search)}
    assert len(found) == len(settings.settings(search))
    lists = {"space", "final", "budget.resources", "evaluate.also"}
    flat = {path for path in search.flat() if not path.startswith("space.")}
    assert flat <= found.keys()
    assert found.keys() - flat <= lists
    for path, one in found.items():
        assert one.about, path
        assert search.override({path: one.value}) == search, path


def test_what_is_said_of_a_setting(tmp_path: Path) -> None:
    search = definitions.load(str(write_search(tmp_path)))
    found = {one.path: one for one in settings.settings(search)}
    rate = found["distill.lr_img"]
    assert (rate.value, rate.type, rate.searched) == (0.1, "number > 0", "0.01 … 1 (log)")
    assert rate.about == "η_S, the image learning rate."
    assert found["distill.init"].type == "real | noise | kcenter | herding"
    assert found["data.image_size"].type == "whole number ≥ 8, ≤ 1024 or null"
    assert found["nas.confirm"].type == 'whole number ≥ 0 or "all"'
    # A protocol's default is its owner's, not its class's.
    assert (found["evaluate.protocol.epochs"].value, found["evaluate.protocol.epochs"].default) == (2, 1000)
    assert (found["budget.validation.epochs"].value, found["budget.validation.epochs"].default) == (2, 200)
    assert found["name"].required
    assert not found["seed"].required


def test_conditions_and_further_tables_are_told(tmp_path: Path) -> None:
    text = {
        "space": {
            "distill.init": {"kind": "choice", "values": ["real", "noise"]},
            "distill.lr_img": {
                "kind": "float", "low": 1, "high": 9, "when": {"path": "distill.init", "values": ["noise"]},
            },
        },
        "evaluate": {"also": {"cross": {"students": 2, "protocol": {"name": "cross"}}}},
    }  # fmt: skip
    search = definitions.load(str(write_search(tmp_path))).override(text)
    found = {one.path: one for one in settings.settings(search)}
    assert found["distill.init"].searched == "real, noise"
    assert found["distill.lr_img"].searched == "1 … 9, where distill.init is noise"
    assert (found["evaluate.also.cross.students"].value, found["evaluate.also.cross.students"].default) == (2, 5)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_search(tmp_path)
    said = call(capsys, "settings", file, "distill", "--set", "distill.ipc=3")
    assert (said.code, said.err) == (0, "")
    assert "distill.ipc = 3  (whole number ≥ 1, ≤ 5000; default 10)\n    Images per class.\n" in said.out
    assert "; searched: 0.01 … 1 (log))" in said.out
    assert "budget." not in said.out
    said = call(capsys, "settings", file, "--json")
    rows = {row["path"]: row for row in json.loads(said.out)}
    assert rows["distill.ipc"]["value"] == 1
    assert {"path", "value", "type", "default", "required", "about", "searched"} == rows["seed"].keys()
    said = call(capsys, "settings", file, "distil.lr_img")
    assert (said.code, said.out) == (2, "")
    assert "distill.lr_img" in said.err
    assert "raydistill settings SEARCH" in " ".join(call(capsys, "run", "--help").out.replace("│", " ").split())
