"""Numbers as people read them: accuracies in per cent, and the tables of a report as texts."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


TWO_CLASS = {"balanced_accuracy": "balanced", "auc": "AUC", "majority_rate": "majority"}
"What ``scores.by_class`` names, besides each class's recall → as people read it."


def two_class(row: Mapping[Any, Any]) -> dict[str, str]:
    """What of a row ``scores.by_class`` gave, in per cent under its heading."""
    names = [name for name in map(str, row) if name in TWO_CLASS or name.startswith("recall ")]
    return {f"{TWO_CLASS.get(name, name)} %": percent(row[name]) for name in names}


def set_label(name: str, factor: int) -> str:
    """How a set is called where people read it; a multi-formation set is never shown without its factor."""
    return f"{name}, factor {factor} (multi-formation)" if name.startswith("distilled") and factor > 1 else name


def percent(value: float | None) -> str:
    """A fraction as a percentage without its sign; ``–`` for none."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.2f}"


def counted(number: int, what: str) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def plain(value: Any) -> str:
    """A setting as people read it: six significant digits, ``–`` for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def seconds_text(value: float | None) -> str:
    """Seconds with as many digits as mean something."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def beside_text(found: Mapping[str, Any]) -> str:
    """What two classes have beside an accuracy in ``results.json``, to stand behind it; empty where they are not two."""
    recall = {f"recall {name}": value for name, value in (found.get("recall") or {}).items()}
    told = two_class({**found, **recall}) if recall else {}
    return "".join(f", {name.removesuffix(' %')} {text} %" for name, text in told.items())


def accuracy_text(row: Mapping[Any, Any]) -> str:
    """Mean ± standard deviation of a row of ``accuracy_table`` in per cent."""
    return percent(row["mean"]) + ("" if math.isnan(row["std"]) else f" ± {percent(row['std'])}")


def interval_text(row: Mapping[Any, Any]) -> str:
    """The 95 % interval of a row of ``accuracy_table`` in per cent; ``–`` where one student gives none."""
    known = not math.isnan(row["ci95_low"])
    return f"{percent(row['ci95_low'])} … {percent(row['ci95_high'])}" if known else "–"


def shown_accuracy(frame: "pd.DataFrame", factor: int = 1) -> "pd.DataFrame":
    """``accuracy_table`` as texts in per cent."""
    import pandas as pd

    rows = []
    for row in frame.to_dict("records"):
        text = {
            "set": set_label(str(row["set"]), factor),
            "network": row["network"],
            "protocol": row["protocol"],
            "epochs": plain(row["epochs"]),
            "accuracy %": accuracy_text(row),
            "95 % interval": interval_text(row),
            "students": plain(row["students"]),
        }
        text |= two_class(row)
        each = "  ".join(percent(value) for value in row["runs"])
        rows.append({**text, "seconds": seconds_text(row["seconds"]), "each student %": each})
    return pd.DataFrame(rows)


def shown_trials(frame: "pd.DataFrame") -> "pd.DataFrame":
    """``trials_table`` as texts; settings lose their common ``distill.``, an empty column of messages goes."""
    shown = frame.astype(object)
    for column in frame.columns:
        shown[column] = [plain(value) for value in frame[column]]
    shown["val_accuracy"] = [percent(value) for value in frame["val_accuracy"]]
    shown["seconds"] = [seconds_text(value) for value in frame["seconds"]]
    if not any(frame["message"]):
        shown = shown.drop(columns="message")
    return shown.rename(columns=short_names(frame.columns) | {"number": "trial", "val_accuracy": "validation %"})


def shown_nas(frame: "pd.DataFrame") -> "pd.DataFrame":
    """``nas_table`` as texts in per cent."""
    import pandas as pd

    rows = []
    for row in frame.to_dict("records"):
        text = {"rank": plain(row["rank"]), "network": row["network"]}
        text |= {"validation accuracy %": percent(row["accuracy"]), **two_class(row)}
        text["each student %"] = "  ".join(percent(value) for value in row["runs"])
        rows.append({**text, "seconds": seconds_text(row["seconds"])})
    return pd.DataFrame(rows)


def shown_plain(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Any frame as texts; a column ``seconds`` as such."""
    shown = frame.astype(object)
    for column in frame.columns:
        text = seconds_text if column == "seconds" else plain
        shown[column] = [text(value) for value in frame[column].astype(object)]
    return shown


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Dotted paths → names without ``distill.``, for headings; the whole path where the short name is taken."""
    every = list(paths)
    return {path: path if (short := path.removeprefix("distill.")) in every else short for path in every}
