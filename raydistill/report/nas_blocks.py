"""The last stage: which network is best on the distilled set, and whether the order there is the order on all images."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from raydistill.models.names import convnet_config, name_of
from raydistill.nas.summary import SETS, Rated, rated, summary
from raydistill.report import tables, texts
from raydistill.report.blocks import Block, Missing, Picture, Table, Text
from raydistill.report.run import Run
from raydistill.report.style import ARMS, INK, QUIET, new_figure, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAINED_ON = {
    "distilled": "distilled set",
    "random": "random real images",
    "early": "all images, stopped early",
    "whole": "all images",
}
MARKS = {"distilled": ARMS["distilled"], "random": ARMS["random"], "early": ARMS["herding"], "whole": ARMS["whole"]}


class Seed(NamedTuple):
    """A row of the seed report: its best network and figures, from real images / from noise; accuracies in per cent."""

    table: str
    dataset: str
    method: str
    init: str
    best: str
    on_set: float
    search_seconds: float
    on_full: float
    full_seconds: float


SEED_REPORT = (
    Seed("V", "MNIST", "DataDAM", "real", "W256", 91.92, 34, 99.52, 484),
    Seed("V", "MNIST", "DataDAM", "noise", "W64", 75.79, 82.83, 99.5, 447),
    Seed("VI", "MHIST", "DataDAM", "real", "GN", 64.79, 656, 67.04, 225),
    Seed("VI", "MHIST", "DataDAM", "noise", "AS", 63.15, 655, 63.66, 216),
    Seed("XI", "MNIST", "PAD", "real", "D4", 79.04, 35, 99.51, 457),
    Seed("XI", "MNIST", "PAD", "noise", "D4", 11.35, 35, 99.5, 456),
    Seed("XII", "MHIST", "PAD", "real", "D1", 65.19, 651, 68.57, 196),
    Seed("XII", "MHIST", "PAD", "noise", "LN", 63.05, 651, 63.05, 240),
)


def first_name(name: str) -> str:
    """``models.canonical``, but any text that names no network, as a run folder may hold, is left as it is."""
    config = convnet_config(name)
    return name if config is None else name_of(config)


def called(name: str) -> str:
    """A network by its architecture's first name, and by the one it was asked for where that is another."""
    own = first_name(name)
    return own if own == name else f"{own} (alias {name.removeprefix('ConvNet')})"


def nas_blocks(run: Run) -> list[Block]:
    """Bars and table of the networks, agreement with all images, costs, the winner beside the seed report's."""
    config = run.search.get("nas")
    if config is None:
        return [Missing("Ranking architectures is not part of this search.", run.again("--set", "nas={}", "--resume"))]
    found = summary(run.path)
    if found is None:
        return [Missing("No architecture has been trained on the set yet.", run.resume())]
    proxies = {proxy: rated(run.path, proxy) for proxy in found["proxies"]}
    nas = tables.nas_table(run.path)
    label = texts.set_label("distilled set", run.factor)
    each = f"{config['students']} student" + ("s" if config["students"] != 1 else "")
    trained = f"protocol “{config['protocol']['name']}” ({config['protocol']['epochs']} epochs), {each} each"
    caption = f"Architectures trained on the {label}, best first, judged on the validation split; {trained}."
    blocks: list[Block] = [
        Picture(
            "nas", nas_bars(proxies), f"Validation accuracy of each architecture trained on the {label}; {trained}."
        ),
        Table("nas", nas, texts.shown_nas(nas), caption, marked=0),
    ]
    blocks += [Text(text) for text in found["warnings"]]
    blocks += _agreement_blocks(found, run, proxies)
    frame, made = proxies_table(found), texts.seconds_text(run.final.read().get("seconds"))
    blocks.append(Table("nas_proxies", frame, _shown_proxies(frame), _proxies_caption(found, made)))
    beside, full = seed_table(run, found), found.get("full")
    if full is not None:
        blocks.append(Text(_winner(full)))
    if not beside.empty:
        text = (
            "Beside the seed report's own figures (ConvNetD3, MHIST ConvNetD7; 50 epochs on the set and on all images): best "
            "network of its NAS, accuracy on the set and on all images. This run's settings are below."
        )
        blocks.append(Table("nas_seed_report", beside, _shown_seed(beside), text))
    return blocks


def _agreement_blocks(found: Mapping[str, Any], run: Run, proxies: Mapping[str, list[Rated]]) -> list[Block]:
    truth = truth_of(found)
    if not truth:
        return []
    epochs = run.search["nas"]["whole_epochs" if found["truth"] == "whole" else "confirm_epochs"]
    judged = [proxy for proxy in proxies if proxy != found["truth"]]
    figure = agreement_scatter({proxy: proxies[proxy] for proxy in judged}, truth)
    length = texts.counted(epochs, "epoch")
    caption = f"Each architecture's accuracy on a proxy against that after {length} on all training images; "
    blocks: list[Block] = [Picture("nas_agreement", figure, caption + "both on the validation split.")]
    if len(truth) < found["distinct"]:
        blocks.append(Text(f"So far {len(truth)} of {found['distinct']} architectures were trained on all images."))
    texts_ = [text for proxy in judged if proxy != "distilled" and (text := _compared(found["proxies"], proxy))]
    return [*blocks, *([Text(" ".join(texts_))] if texts_ else [])]


def _compared(proxies: Mapping[str, Any], other: str) -> str:
    """Whether the distilled set orders networks better than another proxy, by Spearman's correlation."""
    one, two = (proxies[name]["spearman"]["all"] for name in ("distilled", other))
    if one["low"] is None or two["low"] is None:
        return ""
    side = (
        "the same as"
        if one["value"] == two["value"]
        else "higher than"
        if one["value"] > two["value"]
        else "lower than"
    )
    apart = one["low"] > two["high"] or two["low"] > one["high"]
    intervals = "; the two 95 % intervals do not overlap" if apart else ", but the two 95 % intervals overlap"
    return (
        f"Spearman's correlation of {SETS['distilled']} ({one['value']:.2f}) is {side} that of {SETS[other]} "
        f"({two['value']:.2f}){intervals}."
    )


def truth_of(found: Mapping[str, Any]) -> dict[str, float]:
    """Name → accuracy after training on all images; empty where that is not known."""
    if found.get("truth") == "whole":
        return {one["name"]: one["accuracy"] for one in found["proxies"]["whole"]["ranking"]}
    if found.get("truth") == "confirm":
        return {one["name"]: one["val_accuracy"] for one in found["full"]["networks"]}
    return {}


def proxies_table(found: Mapping[str, Any]) -> "pd.DataFrame":
    """One row a proxy: its pick, correlations over all and the truth's best with their intervals, regret, cost."""
    import pandas as pd

    rows = []
    for proxy, one in found["proxies"].items():
        row: dict[str, Any] = {"proxy": proxy, "best": one["best"]}
        for measure in ("spearman", "kendall"):
            for group, value in one.get(measure, {}).items():
                row |= {f"{measure}_{group}_{end}": value[end] for end in ("value", "low", "high")}
        rows.append(
            row
            | {"regret": one.get("regret"), "diverged": one["diverged"], "flops": one["flops"]}
            | {"train_seconds": one["train_seconds"], "seconds": one["seconds"]}
        )
    return pd.DataFrame(rows)


def _shown_proxies(frame: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    rows = []
    for row in frame.to_dict("records"):
        shown = {"trained on": TRAINED_ON[row["proxy"]], "best": called(row["best"])}
        for measure in ("spearman", "kendall"):
            for group in ("all", "top5", "top10"):
                if f"{measure}_{group}_value" in row:
                    ends = [row[f"{measure}_{group}_{end}"] for end in ("value", "low", "high")]
                    heading = measure.capitalize() + ("" if group == "all" else f", best {group.removeprefix('top')}")
                    shown[heading] = _interval(*ends)
        shown["regret, points"] = texts.percent(row["regret"])
        shown["diverged"] = texts.plain(row["diverged"])
        shown["operations"] = f"{row['flops']:.3g}"
        shown["seconds"] = texts.seconds_text(row["train_seconds"])
        rows.append(shown)
    return pd.DataFrame(rows)


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None or np.isnan(value):
        return "–"
    return f"{value:.2f} ({low:.2f} … {high:.2f})"


def _proxies_caption(found: Mapping[str, Any], made: str) -> str:
    cost = (
        "Cost of training all architectures and seeds: floating-point operations of convolutions and linear layers, and "
        f"seconds of the processes together, judging apart; {made} s of making the distilled set are not in it."
    )
    if "truth" not in found:
        return cost + ' How the orders agree with that on all images is not known: add nas.baselines=["whole"].'
    return (
        "Rank correlation with the order on all images, its 95 % interval (bootstrap over architectures) in brackets; "
        "regret: what the best on all images is above the pick. " + cost
    )


def _winner(full: Mapping[str, Any]) -> str:
    count = len(full["networks"])
    among = f"the best of {count} confirmed" if count > 1 else "the best on the set"
    tested = "not yet" if full["accuracy"] is None else f"{texts.percent(full['accuracy'])} %{texts.beside_text(full)}"
    return (
        f"{full['name']}, {among}, trained for {texts.counted(full['epochs'], 'epoch')} on all training images: "
        f"{texts.percent(full['val_accuracy'])} % of the validation images, test accuracy {tested} "
        f"({texts.seconds_text(full['seconds'])} s, {texts.counted(full['workers'], 'worker')}). The test set was read "
        + (
            "once, for this number."
            if full["tests"] < 2
            else f"{full['tests']} times: there were other winners before."
        )
    )


def seed_table(run: Run, found: Mapping[str, Any]) -> "pd.DataFrame":
    """This run's NAS beside the report's on the same data with the same method and start; empty where it has none."""
    import pandas as pd

    search = run.search
    where = (search["data"]["source"], run.distill["method"], run.distill["init"])
    theirs = [seed for seed in SEED_REPORT if (seed.dataset, seed.method, seed.init) == where]
    full = found.get("full") or {}
    rows: list[dict[str, Any]] = [
        {
            "source": f"report, table {seed.table}",
            "best": f"ConvNet{seed.best}",
            "on_set": seed.on_set / 100,
            "search_seconds": seed.search_seconds,
            "on_full": seed.on_full / 100,
            "full_seconds": seed.full_seconds,
        }
        for seed in theirs
    ]
    if rows:
        other = full.get("name", found["best"]) != found["best"]
        rows.append(
            {
                "source": "this run" + (f" (on all images: {called(full['name'])})" if other else ""),
                "best": found["best"],
                "on_set": found["ranking"][0]["accuracy"],
                "search_seconds": found["seconds"],
                "on_full": full.get("accuracy"),
                "full_seconds": full.get("seconds"),
            }
        )
    return pd.DataFrame(rows)


def _shown_seed(frame: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(
        {
            "source": frame["source"],
            "best": [called(name) for name in frame["best"]],
            "on the set, % of validation images": [texts.percent(value) for value in frame["on_set"]],
            "search s (ours: sum of all networks)": [texts.seconds_text(value) for value in frame["search_seconds"]],
            "on all images, % of test images": [texts.percent(value) for value in frame["on_full"]],
            "training s": [texts.seconds_text(value) for value in frame["full_seconds"]],
        }
    )


@styled
def nas_bars(proxies: Mapping[str, list[Rated]]) -> "Figure":
    """Accuracy of each name: one bar a proxy, 95 % interval of the mean where there are several students, best on top."""
    own = [(name, one) for one in proxies["distilled"] for name in sorted(one.names)]
    by_network = {proxy: {one.network: one for one in rows} for proxy, rows in proxies.items()}
    figure = new_figure((0.13 + 0.14 * len(proxies)) * len(own) + 0.9)
    ax = figure.subplots()
    height = 0.78 / len(proxies)
    for place, (proxy, rows) in enumerate(by_network.items()):
        for row, (_, one) in enumerate(own):
            if one.network in rows:
                _bar(ax, row + (place - (len(proxies) - 1) / 2) * height, height, rows[one.network], proxy, row == 0)
    ax.set_yticks(range(len(own)), [name for name, _ in own])
    ax.set_ylim(len(own) - 0.4, -0.6)
    ax.set_xlim(0, 112)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("validation accuracy, % (bar: mean of the students; line: 95 % interval of the mean)")
    if len(proxies) > 1:
        figure.legend(loc="outside upper center", ncols=len(proxies))
    return figure


def _bar(ax: "Axes", y: float, height: float, one: Rated, proxy: str, label: bool) -> None:
    from raydistill.evaluate.scores import interval, possible

    color = MARKS[proxy].color
    named = TRAINED_ON[proxy] if label else None
    ax.barh(y, 100 * one.accuracy, color=color, height=height * 0.92, alpha=0.85, label=named)
    end = 100 * one.accuracy
    if len(one.runs) > 1:
        low, high = possible(*interval(one.runs))
        ax.plot([100 * low, 100 * high], [y, y], color=INK, linewidth=1.2)
        end = max(end, 100 * high)
    ax.annotate(
        f"{100 * one.accuracy:.1f}", (min(end, 100), y), (4, 0), textcoords="offset points", va="center", fontsize=7
    )


Box = tuple[float, float, float, float]
"Left, lower, right and upper edge, in points."


@styled
def agreement_scatter(proxies: Mapping[str, list[Rated]], truth: Mapping[str, float]) -> "Figure":
    """Accuracy on each proxy against that after training on all images, one panel a proxy, each architecture by its name.

    Args:
        proxies: proxy → its networks.
        truth: name → accuracy on all images.
    """
    figure = new_figure(4.6)
    axes = figure.subplots(1, len(proxies), squeeze=False, sharey=True)[0]
    drawn = []
    for ax, (proxy, rows) in zip(axes, proxies.items(), strict=True):
        named = [(one, next((name for name in one.names if name in truth), None)) for one in rows]
        known = [(one, truth[name]) for one, name in named if name is not None]
        x, y = [100 * one.accuracy for one, _ in known], [100 * accuracy for _, accuracy in known]
        ax.plot(x, y, linestyle="", marker=MARKS[proxy].marker, color=MARKS[proxy].color, alpha=0.8)
        ax.set_title(TRAINED_ON[proxy])
        ax.set_xlabel("accuracy on it, %")
        ax.margins(0.12)
        drawn.append((ax, x, y, [one.network.removeprefix("ConvNet").removeprefix("-") for one, _ in known]))
    axes[0].set_ylabel("accuracy on all images, %")
    figure.draw_without_rendering()  # where things are is known from here on
    for ax, x, y, names in drawn:
        _name_points(ax, x, y, names)
    return figure


LETTER = (4.4, 8.5)
"Width and height of a label's letter, in points."


def _name_points(ax: "Axes", x: Sequence[float], y: Sequence[float], names: Sequence[str]) -> None:
    """Write names beside points: each in the nearest place that no point or earlier name takes, with a line to it if far."""
    scale = 72 / ax.figure.dpi
    at = [(float(px) * scale, float(py) * scale) for px, py in ax.transData.transform(list(zip(x, y, strict=True)))]
    taken = [(px - 3, py - 3, px + 3, py + 3) for px, py in at]
    (left, low), (right, high) = ((a * scale, b * scale) for a, b in ax.bbox.get_points())
    for (px, py), a, b, name in sorted(zip(at, x, y, names, strict=True), key=lambda one: -one[0][1]):
        wide, tall = LETTER[0] * len(name), LETTER[1]
        far = [dy * tall for step in range(16) for dy in (step, -step - 1)]
        places = sorted(
            [(dx, dy) for dy in far for dx in (5.0, -5.0 - wide, 25.0, -25.0 - wide, 60.0, -60.0 - wide)],
            key=lambda place: abs(place[1]) + abs(place[0] + wide / 2),
        )
        for dx, dy in places:
            box = (px + dx, py + dy, px + dx + wide, py + dy + tall)
            inside = box[0] >= left and box[2] <= right and box[1] >= low and box[3] <= high
            if inside and not any(_overlap(box, other) for other in taken):
                break
        taken.append(box)
        line = (
            {"arrowstyle": "-", "color": QUIET, "linewidth": 0.4}
            if abs(dy) > tall or dx not in (5.0, -5.0 - wide)
            else None
        )
        ax.annotate(name, (a, b), (dx, dy), textcoords="offset points", fontsize=7, color=QUIET, arrowprops=line)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
