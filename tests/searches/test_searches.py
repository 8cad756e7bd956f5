"""The searches that come with the package can all be loaded, stored and, where their data are at hand, begun."""

from pathlib import Path

import pytest

from raydistill import definitions
from raydistill.errors import DataError
from raydistill.runtime.local import Local
from raydistill.search.definition import Search
from raydistill.stages import Experiment
from raydistill.track import Progress

FOLDER = Path(__file__).parents[2] / "searches"
FILES = sorted(path.name for path in FOLDER.glob("*.py"))


def test_quickstart_is_among_them() -> None:
    assert "quickstart.py" in FILES


def given() -> list[str]:
    """Every file, and every part of one that holds several searches."""
    found = []
    for name in FILES:
        whole = definitions.load_any(str(FOLDER / name))
        found += [name] if isinstance(whole, Search) else [f"{name}:{part}" for part in whole.parts]
    return found


@pytest.mark.parametrize("name", given())
def test_search(name: str, tmp_path: Path) -> None:
    search = definitions.load(str(FOLDER / name))
    assert Search.parse(search.to_json()) == search
    cheaper = search.override({"budget.gpus": 0, "budget.trials": 1, "distill.iterations": 1})
    try:
        Experiment(cheaper, tmp_path / "run", Local(), Progress(quiet=True), data_root()).check(
            ("experts", "search", "distill")
        )
    except DataError as error:
        pytest.skip(f"needs its data: {error}"[:150])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", FILES)
def test_docstring_says_how_to_run_it(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert text.startswith('"""')
    assert f"searches/{name}" in text.split('"""')[1]


def data_root() -> Path | None:
    beside = Path(__file__).parents[3] / "shared" / "data"
    return beside if beside.is_dir() else None


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    from raydistill.data.sources import Downloaded

    def refuse(*args: object) -> None:
        raise OSError("no downloads in tests")

    monkeypatch.setattr(Downloaded, "download", refuse)
