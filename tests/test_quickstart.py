"""The first thing that a user types, whole, with Ray as it comes."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from tests.test_cli import check_contract
from tests.tiny import shell

SEARCH = Path(__file__).parents[1] / "searches" / "quickstart.py"
LONGEST = 1200.0
"Seconds, for a machine that does other work too; how long it takes on a quiet one is measured by hand (README)."


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(LONGEST + 60)
def test_quickstart(tmp_path: Path) -> None:
    started = time.monotonic()
    command, environment = shell("run", SEARCH, "--out", tmp_path)
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False)
    print(f"quickstart took {time.monotonic() - started:.0f} s\n{done.stdout}\n{done.stderr}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    run = tmp_path / "quickstart"
    document = json.loads((run / "results.json").read_text())
    trials = document["stages"]["search"]["trials"]
    assert trials >= 8
    check_contract(document, run, trials)
    means = {row["set"]: row["accuracy"]["mean"] for row in document["stages"]["evaluate"]}
    assert means["whole"] > means["distilled"] > means["random"]
    assert document["stages"]["nas"]["names"] == 6
    assert (run / "report" / "index.html").stat().st_size > 10_000
    _tracked(document, trials)


def _tracked(document: dict, trials: int) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=document["mlflow"]["tracking_uri"])
    experiment = client.get_experiment_by_name(document["mlflow"]["experiment"])
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=500)
    parent = [run for run in runs if run.info.run_id == document["mlflow"]["run_id"]]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(parent) == 1
    assert parent[0].info.status == "FINISHED"
    assert len(children) == len(runs) - 1 >= trials + 1
    assert all(run.info.status in ("FINISHED", "FAILED") for run in children)
