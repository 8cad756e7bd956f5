"""From what the user typed to a resolved ``Search``: a file in ``searches/``, one of its names, or a stored search.json.

A file may also define a ``Reproduction``: several searches with one page.
"""

import os
import runpy
from collections.abc import Sequence
from pathlib import Path

from raydistill import artifacts, storage
from raydistill.errors import ArtifactError, ConfigError, UnknownNameError
from raydistill.search.definition import Search
from raydistill.search.reproduction import Reproduction

DEFAULT = "search"
"The variable that ``FILE.py`` alone means."


def load(given: str, settings: Sequence[str] = (), seed: int | None = None) -> Search:
    """Read a search and change single values.

    Args:
        given: ``searches/FILE.py``, ``searches/FILE.py:NAME``, or a ``search.json``, also at an address.
        settings: ``KEY=VALUE`` with dotted keys.
        seed: replaces the search's.

    Raises:
        ConfigError: no such file or name, the file does not run, it holds several searches, or a value does not fit.
    """
    found = load_any(given, settings, seed)
    if isinstance(found, Reproduction):
        raise ConfigError(
            f"{given} holds several searches, which only `raydistill run` and `plan` take together; name one of them: "
            f"{', '.join(f'{given}:{name}' for name in found.parts)}"
        )
    return found


def load_any(given: str, settings: Sequence[str] = (), seed: int | None = None) -> Search | Reproduction:
    """``load`` for commands that take several searches too; values are changed in each of them."""
    found = _read(given)
    changes: dict[str, object] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {setting!r}: write KEY=VALUE, such as --set distill.iterations=200")
        changes[key.strip()] = value
    if seed is not None:
        changes["seed"] = seed
    if not changes:
        return found
    if isinstance(found, Search):
        return found.override(changes)
    return Reproduction(name=found.name, parts={key: part.override(changes) for key, part in found.parts.items()})


def whole_of(given: str) -> Reproduction | None:
    """The several searches that ``FILE.py:NAME``, which loads, is one of; ``None`` for any other search."""
    if storage.ADDRESS.match(given):
        return None
    path, variable = parted(given)
    if not variable:
        return None
    found = runpy.run_path(path).get(DEFAULT)
    return found if isinstance(found, Reproduction) and variable in found.parts else None


def parted(given: str) -> tuple[str, str]:
    """``FILE.py`` and ``NAME`` of ``FILE.py:NAME``, the latter empty where none is given; FILE may hold colons too."""
    file, _, variable = given.rpartition(":")
    return (file, variable) if file.endswith(".py") else (given, "")


def _read(given: str) -> Search | Reproduction:
    name, variable = parted(given)
    path = Path(name)
    if storage.ADDRESS.match(given):
        name, path = given, storage.place(given)
        storage.fetch(path)
    if not os.path.isfile(path):
        there = sorted(str(p) for p in Path("searches").glob("*.py"))
        hint = f"there is {', '.join(there)}" if there else "give the path of a search file"
        raise ConfigError(f"no search file {name!r}; {hint}")
    if path.suffix == ".json" or storage.mirrored(path):  # code is not taken from there
        try:
            return Search.parse(artifacts.read_json(path, way_out=""))  # a user's own: not to be deleted
        except (ArtifactError, ConfigError) as error:
            raise ConfigError(f"{storage.shown(path)} is no search: {error}") from None
    if path.suffix != ".py":
        raise ConfigError(f"{path} is neither a search file (.py) nor a stored search (.json)")
    return _from_python(path, variable or DEFAULT)


def _from_python(path: Path, variable: str) -> Search | Reproduction:
    try:
        names = runpy.run_path(str(path))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{path} does not run: {type(error).__name__}: {' '.join(str(error).split())}") from error
    searches = {key: value for key, value in names.items() if isinstance(value, Search)}
    whole = names.get(DEFAULT)
    if isinstance(whole, Reproduction):
        if variable == DEFAULT:
            return whole
        searches = {**searches, **whole.parts}
    if variable not in searches:
        if variable == DEFAULT:
            raise ConfigError(f"{path} defines no `search`; name one of its searches: {_choices(path, searches)}")
        raise UnknownNameError(f"search in {path}", variable, searches)
    return searches[variable]


def _choices(path: Path, searches: dict[str, Search]) -> str:
    return ", ".join(f"{path}:{name}" for name in sorted(searches)) or "it has none"
