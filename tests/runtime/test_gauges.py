"""What Ray's Prometheus endpoint says of a search, scraped over loopback, and the Grafana dashboard that draws it."""

import json
import re
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import raydistill
from raydistill.artifacts import COMPLETED
from raydistill.cli_run import metered
from raydistill.display import Several, ToDisplay
from raydistill.runtime.gauges import SERIES, STATES, Gauges
from raydistill.runtime.local import Local
from raydistill.runtime.on_ray import OnRay
from raydistill.search import tune
from raydistill.search.trials import TrialRecord, best_trial, read_trials
from raydistill.track import Progress
from tests.runtime import work
from tests.search.fakes import FAKE, make_data, make_search

GRAFANA = Path(raydistill.__file__).parents[1] / "cluster" / "grafana.json"
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
OF_OURS = re.compile(r"\b(?:ray|raydistill)_\w+")


def scrape() -> list[tuple[str, dict[str, str], float]]:
    """(name, labels, value) of every sample that the cluster's nodes offer."""
    import ray

    found = []
    for node in ray.nodes():
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        text = urllib.request.urlopen(address, timeout=30).read().decode()
        for name, labels, value in SAMPLE.findall(text):
            found.append((name, dict(re.findall(r'(\w+)="([^"]*)"', labels or "")), float(value)))
    return found


def ours(search: str) -> dict[tuple[str, str], float]:
    """(series, stage or state) → value, of one search."""
    mine = [one for one in scrape() if one[0].startswith("ray_raydistill_") and one[1].get("search") == search]
    return {(name, labels.get("stage") or labels.get("status") or ""): value for name, labels, value in mine}


def until(ready: Any, seconds: float = 90.0) -> Any:
    """What ``ready`` gives once it gives something."""
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end, "nothing in time"
        time.sleep(0.5)
    return found


def queries(dashboard: Mapping[str, Any]) -> list[str]:
    """All that the dashboard asks Prometheus."""
    variables = [one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    return variables + [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_search_is_seen_by_prometheus_with_all_that_the_dashboard_asks_for(on_ray: OnRay, tmp_path: Path) -> None:
    search = make_search(name="watched")
    gauges = Gauges(search.name)
    try:
        gauges.stage("experts", 5, "trajectories")
        gauges.advance("experts", 3)
        gauges.stage("search", search.budget.trials, "trials")
        tune.run_search(search, tmp_path, make_data(), on_ray, ToDisplay(search, Several(gauges)), FAKE)
        records = read_trials(tmp_path)
        best = best_trial(records)
        assert best is not None
        expected = {
            ("ray_raydistill_units", "experts"): 5,
            ("ray_raydistill_units_done", "experts"): 3,
            ("ray_raydistill_units", "search"): 8,
            ("ray_raydistill_units_done", "search"): 8,
            ("ray_raydistill_best_val_accuracy", ""): pytest.approx(best.val_accuracy),
        }
        for state in STATES:
            expected["ray_raydistill_trials", state] = sum(record.status == state for record in records)
        until(lambda: ours("watched") == expected)
        names = {name for name, _, _ in scrape()}
        for query in queries(json.loads(GRAFANA.read_text(encoding="utf-8"))):
            assert set(OF_OURS.findall(query)) <= names, query
    finally:
        gauges.close()


@pytest.mark.ray
def test_workers_tell_what_they_are_and_what_they_do(on_ray: OnRay) -> None:
    [(_, seen)] = on_ray.map(work.title, [{}], {})
    assert seen == "ray::RaydistillWorker.tests.runtime.work.title"


def test_the_dashboard_has_what_grafana_needs() -> None:
    dashboard = json.loads(GRAFANA.read_text(encoding="utf-8"))
    assert {"title", "uid", "schemaVersion", "version", "time", "templating", "panels"} <= set(dashboard)
    assert dashboard.get("id") is None, "Grafana gives a dashboard its id"
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    places: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        assert {"id", "type", "title", "gridPos", "fieldConfig", "options"} <= set(panel)
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        own = {(column, row) for column in range(x, x + w) for row in range(y, y + h)}
        assert x + w <= 24
        assert not own & places, f"{panel['title']} lies on another panel"
        places |= own
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs)) > 0
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for query in queries(dashboard):
        assert all(query.count(left) == query.count(right) for left, right in ("()", "[]", "{}")), query
        known = {name for name in OF_OURS.findall(query) if name.startswith("ray_raydistill_")}
        assert {name.removeprefix("ray_") for name in known} <= set(SERIES)
        assert set(re.findall(r"\$\{?(\w+)", query)) <= {"search"}


def test_values_are_set_again_and_again_for_ray_forgets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[str, float, dict[str, str]]] = []

    class Heard:
        def __init__(self, name: str, about: str, tags: tuple[str, ...]) -> None:
            self.name, self.tags = name, tags

        def set(self, value: float, tags: dict[str, str]) -> None:
            assert set(tags) == set(self.tags)
            heard.append((self.name, value, tags))

    monkeypatch.setattr("ray.util.metrics.Gauge", Heard)
    monkeypatch.setattr("raydistill.runtime.gauges.EVERY", 0.01)
    gauges = Gauges("s")
    gauges.stage("experts", 4, "trajectories")
    until(lambda: len(heard) > 20)
    gauges.close()
    last = ("raydistill_units", 4.0, {"search": "s", "stage": "experts"})
    assert heard.count(last) > 5


def test_only_trials_are_counted_as_trials_and_only_completed_ones_are_best() -> None:
    gauges = Gauges("s")
    gauges._repeat = lambda: None
    gauges.stage("experts", 2, "trajectories")
    gauges.trial(0, 5, 5, {"val_accuracy": 0.99}, COMPLETED)
    gauges.stage("search", 3, "trials", 1)
    listener = ToDisplay(make_search(), gauges)
    listener.trial_found(TrialRecord(0, {}, COMPLETED, {}, 0.5, 1.0, 10))
    listener.trial_finished(TrialRecord(1, {}, "stopped", {}, 0.8, 1.0, 10))
    listener.trial_started(2, {})
    listener.trial_progress(2, 4, {"val_accuracy": 0.9})
    gauges.note("nothing")
    found = {(name, tags.get("status") or tags.get("stage") or ""): value for name, tags, value in gauges.values()}
    gauges.close()
    assert {state: found["raydistill_trials", state] for state in STATES} == {
        "running": 1,
        "completed": 1,
        "stopped": 1,
        "diverged": 0,
        "failed": 0,
    }
    assert found["raydistill_best_val_accuracy", ""] == 0.5
    assert (found["raydistill_units", "search"], found["raydistill_units_done", "search"]) == (3, 2)


def test_without_ray_there_is_nothing_beside_the_display() -> None:
    progress = Progress(quiet=True)
    with metered(Local(), progress, "s") as display:
        assert display is progress
    with metered(object(), progress, "s") as display:
        assert [type(one) for one in display.displays] == [Progress, Gauges]
