"""The part of the report on architectures."""

from pathlib import Path

import numpy as np
import pytest

from raydistill import artifacts
from raydistill.artifacts import COMPLETED, Unit, write_json
from raydistill.nas.summary import SETS, Rated, rated, summary
from raydistill.report import nas_blocks, style, tables
from raydistill.report.blocks import Missing, Picture, Table, Text
from raydistill.report.nas_blocks import SEED_REPORT, agreement_scatter, nas_bars, seed_table, truth_of
from raydistill.report.run import Run
from tests.report.fake import fake_run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all proxies, and one network confirmed."""
    baselines = ("random", "early", "whole")
    run = fake_run(tmp_path_factory.mktemp("study"), trials=0, baselines=baselines)
    best = rated(run, "distilled")[0].network
    unit = Unit(run / "units" / "confirm" / best)
    unit.begin("f" * 16, {}, {})
    about = {"network": best, "epochs": 7, "workers": 2, "seconds": 123.4, "flops": 10**12}
    unit.finish(COMPLETED, {"val_accuracy": 0.9876, "test_accuracy": 0.9765}, **about)
    return run


def said(blocks: list[nas_blocks.Block]) -> str:
    return " ".join(block.text for block in blocks if isinstance(block, Text | Missing))


def test_a_plain_ranking_says_that_agreement_is_not_known(finished: Path) -> None:
    blocks = nas_blocks.nas_blocks(Run(finished))
    assert [block.name for block in blocks if isinstance(block, Picture | Table)] == ["nas", "nas", "nas_proxies"]
    (proxies,) = [block for block in blocks if isinstance(block, Table) and block.name == "nas_proxies"]
    assert "is not known" in proxies.caption
    assert proxies.frame["proxy"].tolist() == ["distilled"]


def test_a_study_shows_agreement_costs_and_the_winner(study: Path) -> None:
    run, found = Run(study), summary(study)
    assert found is not None
    blocks = nas_blocks.nas_blocks(run)
    names = [block.name for block in blocks if isinstance(block, Picture)]
    assert names == ["nas", "nas_agreement"]
    text = said(blocks)
    assert all(warning in text for warning in found["warnings"])
    assert "97.65 %" in text
    assert "7 epochs" in text
    assert "2 workers" in text
    assert "that of random images" in text
    (proxies,) = [block for block in blocks if isinstance(block, Table) and block.name == "nas_proxies"]
    for row, (proxy, one) in zip(proxies.frame.to_dict("records"), found["proxies"].items(), strict=True):
        assert (row["proxy"], row["flops"]) == (proxy, one["flops"])
        if proxy != "whole":
            assert row["spearman_all_value"] == one["spearman"]["all"]["value"]
            assert row["kendall_top5_low"] == one["kendall"]["top5"]["low"]
    shown = proxies.shown
    assert "Spearman, best 5" in shown.columns
    assert shown.iloc[-1]["Spearman"] == "–"
    assert not shown.isna().any().any()


def test_every_architecture_is_named_in_every_panel(study: Path) -> None:
    found = summary(study)
    assert found is not None
    proxies = {proxy: rated(study, proxy) for proxy in ("distilled", "random", "early")}
    figure = agreement_scatter(proxies, truth_of(found))
    assert len(figure.axes) == 3
    for ax, (proxy, rows) in zip(figure.axes, proxies.items(), strict=True):
        assert len(ax.texts) == len(rows) == 18
        assert ax.get_title(loc="left") == nas_blocks.TRAINED_ON[proxy]
        assert ax.lines[0].get_xdata() == pytest.approx([100 * one.accuracy for one in rows])
    assert style.to_png(figure).startswith(b"\x89PNG")


def test_bars_begin_at_zero_one_for_each_name_and_proxy(study: Path) -> None:
    proxies = {proxy: rated(study, proxy) for proxy in ("distilled", "whole")}
    ax = nas_bars(proxies).axes[0]
    nas = tables.nas_table(study)
    assert ax.get_xlim()[0] == 0
    assert [label.get_text() for label in ax.get_yticklabels()] == nas["network"].tolist()
    widths = [bar.get_width() for bar in ax.patches]
    assert len(widths) == 2 * 22
    assert widths[:22] == pytest.approx((100 * nas["accuracy"]).tolist())
    assert len(ax.lines) == 44  # intervals
    assert np.diff(ax.lines[0].get_xdata())[0] > 0


def test_no_bar_has_an_interval_beyond_all_images() -> None:
    one = Rated("ConvNetD3", ("ConvNetD3",), 0.985, (0.97, 1.0), 3.0, 2.0, 10**9, 0, {})
    (line,) = nas_bars({"distilled": [one]}).axes[0].lines
    assert max(line.get_xdata()) == 100


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (
            (0.75, 0.37, 0.94),
            (0.60, 0.20, 0.80),
            "is higher than that of {} (0.60), but the two 95 % intervals overlap.",
        ),
        (
            (0.75, 0.37, 0.94),
            (0.90, 0.68, 0.98),
            "is lower than that of {} (0.90), but the two 95 % intervals overlap.",
        ),
        (
            (0.90, 0.85, 0.95),
            (0.30, 0.10, 0.50),
            "is higher than that of {} (0.30); the two 95 % intervals do not overlap.",
        ),
    ],
)
def test_a_proxy_is_not_called_better_where_intervals_overlap(
    one: tuple[float, ...], other: tuple[float, ...], told: str
) -> None:
    ends = ("value", "low", "high")
    known = {"distilled": one, "random": other}
    proxies = {name: {"spearman": {"all": dict(zip(ends, v, strict=True))}} for name, v in known.items()}
    assert nas_blocks._compared(proxies, "random").endswith(told.format(SETS["random"]))


def test_the_seed_reports_figures_stand_beside_ours_only_where_they_are_comparable(study: Path, tmp_path: Path) -> None:
    found = summary(study)
    assert found is not None
    assert seed_table(Run(study), found).empty  # digits
    search = artifacts.read_json(study / "search.json")
    search["data"]["source"] = "MNIST"
    copy = fake_run(tmp_path, trials=0)
    write_json(copy / "search.json", search)
    table = seed_table(Run(copy), found)
    assert table["source"].tolist() == ["report, table V", "this run"]
    assert table["best"].tolist() == ["ConvNetW256", found["best"]]
    assert table["on_full"].tolist() == [0.9952, 0.9765]
    assert len(SEED_REPORT) == 8
