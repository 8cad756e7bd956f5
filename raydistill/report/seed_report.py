"""The page of the reproduction: the seed report's twelve tables and figures beside ours, and what differs, in figures."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from raydistill.data.mhist import GENERATED
from raydistill.report import page, single, texts
from raydistill.report.blocks import Block, Fold, Missing, Picture, Report, Section, Table, Text
from raydistill.report.seed_cells import KEYS, NOT_MEASURED, SHORT, TILES, Found, Key, Part, frames, rows
from raydistill.report.seed_differences import difference_blocks, network_blocks, ranking_blocks
from raydistill.report.seed_figures import FIGURES, TABLES, SeedTable, nas_table
from raydistill.report.seed_nas import nas_frames
from raydistill.search.lengths import lengths
from raydistill.search.reproduction import Reproduction

PARTS = (("MNIST", "DataDAM"), ("MHIST", "DataDAM"), ("MNIST", "PAD"), ("MHIST", "PAD"))
"In the report's order."


def write_page(
    whole: Reproduction, out: Path, given: str, options: str = "", own: Mapping[str, str] | None = None
) -> Path:
    """Write the page from the parts' run folders, as far as these have come.

    Args:
        whole: the reproduction at its full length.
        out: where the run folders are; the page goes to ``out/NAME``.
        given: how its file is named in commands.
        options: theirs, that say where data and run folders are, and what the parts were run with.
        own: part → further options of its commands.

    Returns:
        ``out/NAME/index.html``, which needs no other file; ``report.md`` and a CSV a table lie beside it.

    Raises:
        EnvironmentIssue: ``out`` cannot be written.
    """
    return page.write(report(Found(whole, out, given, options, own)), out / whole.name)


def report(found: Found) -> Report:
    """The whole page."""
    sections = [
        Section(f"{d}-{m}".lower(), f"{d}, {m}", [*_tables(found, d, m), *_figures(found, d, m)]) for d, m in PARTS
    ]
    cells = list(_cells(found))
    measured = sum(text != NOT_MEASURED for text in cells)
    return Report(
        title="The seed report, reproduced",
        subtitle="Its Tables I to XII and Figures 1 to 12 beside ours",
        facts=_facts(found) | {"cells measured": f"{measured} of {len(cells)}"},
        sections=[
            Section("reading", "How to read it", [Text(READING)]),
            *sections,
            Section("networks", "Other networks", network_blocks(found)),
            Section("ranking", "DD-Ranking", ranking_blocks(found)),
            Section("lengths", "Lengths", _lengths(found)),
            Section("differences", "What differs and why", difference_blocks(found)),
        ],
    )


READING = (
    "Accuracies are of the test images, in per cent: mean ± standard deviation of the students. “Report” is what the seed "
    "report printed, “difference” ours minus that, in points. Protocol “seed” is the report's own 50 epochs (its batch is at "
    "“Settings”), which on a small set are few steps; the row below it trains the same set longer: 1000 epochs (“field”), or on "
    "AlexNet with a rate chosen for it. Networks on all images have one protocol, and so have the 22 networks (50 epochs). E "
    "epochs are E + 1 passes, as in the released codes. Settings and learning rates were chosen on validation images. Random "
    "real images are the same for both methods, and so is the network trained on all images. "
    f"A cell that no run has filled says “{NOT_MEASURED}”, and the command below its table measures it."
)


def _facts(found: Found) -> dict[str, str]:
    runs = [part.run for part in found.parts.values()]
    facts = {
        "machine": {str(run.results.get("machine") or "") for run in runs},
        "seed": {str(run.search["seed"]) for run in runs},
        "git commit": {str(run.results.get("git_commit") or "") for run in runs},
        "versions": {", ".join(f"{k} {v}" for k, v in run.results.get("versions", {}).items()) for run in runs},
    }
    told = {name: "; ".join(sorted(values - {""})) for name, values in facts.items()}
    return {name: text for name, text in told.items() if text}


def _cells(found: Found) -> Iterator[str]:
    """What stands under “ours” in every cell of the twelve tables; rows of generated tiles are not the report's."""
    for table in TABLES:
        shown = frames(found, table)[1]
        yield from shown.loc[~shown["trained on"].str.contains(GENERATED), "ours %"]
    for dataset, method in PARTS:
        yield from nas_frames(found, dataset, method)[1]["ours"]


def _tables(found: Found, dataset: str, method: str) -> Iterator[Block]:
    for table in TABLES:
        if (table.dataset, table.method) == (dataset, method):
            yield from _accuracies(found, table)
    plain, shown = nas_frames(found, dataset, method)
    number = next(iter(nas_table(dataset, method).values())).table
    caption = (
        f"Table {number}: {dataset}, {method}, the best of the 22 networks. Our accuracies on the set are of the validation "
        "images, by which networks are chosen; on all images they are of the test images. Seconds of our search are the "
        "sum over networks."
    )
    yield Table(f"table_{number}", plain, shown, caption)
    lacking = set(shown.loc[shown["ours"] == NOT_MEASURED, "set"])
    if keys := [Key(dataset, method, init) for init in nas_table(dataset, method) if f"from {init}" in lacking]:
        yield _missing(found, f"Table {number}", *(key.part for key in keys))


def _accuracies(found: Found, table: SeedTable) -> Iterator[Block]:
    plain, shown = frames(found, table)
    caption = f"Table {table.number}: {table.dataset}, {table.method}, {table.network}."
    yield Table(f"table_{table.number}", plain, shown, caption)
    lacking = [row.part for row in rows(found, table) if row.ours is None]
    if lacking:
        yield _missing(found, f"Table {table.number}", *lacking)


def _missing(found: Found, what: str, *parts: str) -> Missing:
    licensed = any(part.startswith("mhist") and not part.endswith(TILES) for part in parts)
    more = " MHIST is licensed: `raydistill data MHIST` says how to get it." if licensed else ""
    return Missing(f"{what}: cells that say “{NOT_MEASURED}” are filled by this.{more}", found.command(*parts))


def _figures(found: Found, dataset: str, method: str) -> Iterator[Block]:
    """Before, after and difference of each distillation; on generated tiles too, where that was run."""
    for key in [key for key in KEYS if key[:2] == (dataset, method)]:
        for name in (key.part, key.part + TILES):
            tiles = name.endswith(TILES)
            label = f"{FIGURES[key]}: {method} on {dataset} from {key.init}"
            if tiles and name not in found.parts:
                continue
            if tiles:
                label = f"{method} on generated tiles, not {dataset}, from {key.init}"
            part = found.parts.get(name)
            if part is None or part.images is None:
                yield Missing(f"{label}: {NOT_MEASURED}.", found.command(name))
                continue
            for block in single.set_blocks(part.run):
                if isinstance(block, Picture):
                    yield replace(block, name=f"figure_{name}", caption=f"{label}. {block.caption}")


def _lengths(found: Found) -> list[Block]:
    """How long everything was, beside what the search file asks for."""
    import pandas as pd

    table = []
    for name, full in found.whole.parts.items():
        part = found.parts.get(name) or found.parts.get(name + TILES)
        asked = lengths(full)
        iterations = asked.get("final.distill.iterations", full.distill.iterations)
        if part is None:
            row = {"part": name, "iterations": NOT_MEASURED, "in the file": f"{iterations:,}"}
            table.append(row | dict.fromkeys(REST, "–"))
            continue
        distill, record = part.run.distill, part.run.final.read()
        evaluate, nas, experts = part.run.search["evaluate"], part.run.search["nas"], distill.get("experts")
        table.append(
            {
                "part": part.name,
                "iterations": f"{distill['iterations']:,}",
                "in the file": f"{iterations:,}",
                "distillation, s": texts.seconds_text(record.get("seconds")),
                "networks or experts": str(experts["count"] if experts else distill.get("network_pool") or "fresh"),
                "students": ", ".join(_students(evaluate, asked)),
                "all images, epochs": "–"
                if "evaluate.whole_epochs" not in asked
                else _of(evaluate["whole_epochs"], asked["evaluate.whole_epochs"]),
                "NAS's pick, epochs": "–"
                if nas is None
                else _of(nas["confirm_epochs"], asked.get("nas.confirm_epochs")),
                "status": str(record.get("status") or "not begun"),
            }
        )
    frame = pd.DataFrame(table)
    settings = "\n".join(f"{name}: {_settings(found, part)}" for name, part in found.parts.items())
    caption = "“of”: what the file asks for, where --budget or --set changed it; epochs of students and networks stay."
    folds: list[Block] = [Fold("Settings of the distillations that were run", settings)] if settings else []
    return [Table("lengths", frame, frame, caption), *folds]


REST = ("distillation, s", "networks or experts", "students", "all images, epochs", "NAS's pick, epochs", "status")


def _students(evaluate: dict[str, Any], asked: Mapping[str, int]) -> Iterator[str]:
    tables = {"evaluate": evaluate} | {
        f"evaluate.also.{name}": table for name, table in evaluate.get("also", {}).items()
    }
    for path, table in tables.items():
        number = _of(table["students"], asked.get(f"{path}.students"))
        yield f"{number} × {table['protocol']['epochs']} epochs ({table['protocol']['name']})"


def _of(length: int, asked: int | None) -> str:
    return str(length) if asked in (None, length) else f"{length} of {asked}"


def _settings(found: Found, part: Part) -> str:
    """Of the distillation; of the data and the students, what the file does not say or another part has otherwise."""
    params = part.run.final.read().get("params", {})
    told = [f"{name.removeprefix('distill.')}={value}" for name, value in params.items()]
    asked = found.whole.parts[part.name.removesuffix(TILES)].data.to_json()
    told += [f"data.{name}={value}" for name, value in part.run.search["data"].items() if value != asked.get(name)]
    tables = part.run.search["evaluate"].get("also", {})
    if SHORT in tables:
        told.append(f"batch of the {SHORT} protocol={tables[SHORT]['protocol']['batch']}")
    return ", ".join(told)
