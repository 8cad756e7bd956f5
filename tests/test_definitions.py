"""From what was typed to a search."""

from pathlib import Path

import pytest

from raydistill import artifacts, definitions
from raydistill.errors import ConfigError
from tests.tiny import TEXT, write_search


def test_file_means_its_variable_search(tmp_path: Path) -> None:
    path = write_search(tmp_path)
    assert definitions.load(str(path)).name == "tiny"
    assert definitions.load(f"{path}:search") == definitions.load(str(path))
    assert definitions.load(f"{path}:other").name == "other"


def test_path_may_hold_colons(tmp_path: Path) -> None:
    folder = tmp_path / "at 12:30"
    folder.mkdir()
    path = write_search(folder)
    assert definitions.load(str(path)).name == "tiny"
    assert definitions.load(f"{path}:other").name == "other"


def test_stored_search_is_the_same(tmp_path: Path) -> None:
    search = definitions.load(str(write_search(tmp_path)))
    artifacts.write_json(tmp_path / "search.json", search.to_json())
    stored = definitions.load(str(tmp_path / "search.json"))
    assert stored == search
    assert stored.fingerprint() == search.fingerprint()


def test_settings_are_read_as_json_or_text(tmp_path: Path) -> None:
    settings = [
        "distill.iterations=7",
        "distill.init=noise",
        "budget.gpus=0.5",
        "nas=null",
        "distill.network_stages=[3]",
    ]
    search = definitions.load(str(write_search(tmp_path)), settings, seed=5)
    assert (search.distill.iterations, search.distill.init, search.seed) == (7, "noise", 5)
    assert (search.budget.gpus, search.nas) == (0.5, None)
    assert search.distill.flat()["network_stages"] == "3"


def test_value_may_hold_an_equals_sign(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'a=b'"):
        definitions.load(str(write_search(tmp_path)), ["seed=a=b"])


def test_later_setting_wins_and_seed_is_last(tmp_path: Path) -> None:
    search = definitions.load(str(write_search(tmp_path)), ["distill.ipc=2", "distill.ipc=3", "seed=1"], seed=0)
    assert (search.distill.ipc, search.seed) == (3, 0)


def test_settings_that_fit_only_together(tmp_path: Path) -> None:
    path = str(write_search(tmp_path))
    with pytest.raises(ConfigError, match="network_stages"):
        definitions.load(path, ["distill.network_stages=[0, 5]"])
    search = definitions.load(path, ["distill.network_stages=[0, 5]", "distill.network_pool=4"])
    assert search.distill.flat()["network_pool"] == 4


def test_error_of_the_file_names_the_file(tmp_path: Path) -> None:
    path = write_search(tmp_path, TEXT.replace("trials=2", "trials=0"))
    with pytest.raises(ConfigError, match=rf"^{path}: .*trials=0"):
        definitions.load(str(path))


def test_file_is_not_run_as_main(tmp_path: Path) -> None:
    path = write_search(tmp_path, TEXT + "\nif __name__ == '__main__':\n    raise SystemExit\n")
    assert definitions.load(str(path)).name == "tiny"
