"""What the page says beyond the report's cells: other networks, DD-Ranking's scores, and what differs, in measured figures."""

from collections.abc import Iterator
from typing import Any

from raydistill.evaluate.scores import (
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)
from raydistill.models.names import CLASSICS
from raydistill.report import texts
from raydistill.report.blocks import Block, Missing, Table, Text
from raydistill.report.seed_cells import CROSS, HARD, KEYS, NOT_MEASURED, PLAIN, SHORT, Found, Key, Measured
from raydistill.report.seed_figures import CONSTANT, NAS, TABLES

CLOSE = 0.05
"Points within which a printed accuracy is taken for a constant answer's."


def network_blocks(found: Found) -> list[Block]:
    """Students of other architectures on each set and on random real images, each with a rate of its own."""
    import pandas as pd

    table, lacking = [], []
    for key in KEYS:
        for network in CLASSICS:
            beside = found.beside(key, "random", network, CROSS)
            ours = found.distilled(key, network, CROSS)
            gap = "–" if ours is None or beside is None else f"{ours.percent - beside.percent:+.2f}"
            row = {"set": f"{key.dataset}, {key.method}, from {key.init}", "network": network}
            row |= {"ours %": _text(ours), "random real images %": _text(beside), "difference": gap}
            row |= {"rate": _rate(ours), "rate, random": _rate(beside)}
            row["epochs"] = "–" if ours is None else str(ours.record["epochs"])
            row["seconds a student"] = "–" if ours is None else texts.seconds_text(ours.seconds)
            table.append(row)
            if ours is None:
                lacking.append(key.part)
    frame = pd.DataFrame(table)
    caption = (
        "Networks that the sets were not made with; the learning rate of each was chosen on the validation images."
    )
    blocks: list[Block] = [Table("networks", frame, frame, caption)]
    if lacking:
        names = ",".join(f'"{name}"' for name in CLASSICS)
        setting = f"'evaluate.also.{CROSS}.networks=[{names}]'"
        command = found.command(*lacking, settings=(setting,))
        blocks.append(
            Missing(f"What says “{NOT_MEASURED}” is measured by this; what is done is not done again.", command)
        )
    return blocks


def _text(measured: Measured | None) -> str:
    return NOT_MEASURED if measured is None else measured.text


def _rate(measured: Measured | None) -> str:
    return "–" if measured is None or "lr" not in measured.record else f"{measured.record['lr']:g}"


def scores(found: Found, key: Key) -> dict[str, float | None]:
    """DD-Ranking's HLR, IOR, LRS and ARS of a distillation, as fractions; ``None`` where an accuracy is not measured."""
    part = found.parts.get(key.part)
    if part is None:
        return dict.fromkeys(("HLR", "IOR", "LRS", "ARS"))
    network, soft = part.run.distill["network"], part.soft
    beside = "initial" if soft else "random"
    whole, hard, own, random, plain, plain_random = (
        None if one is None else one.percent / 100
        for one in (
            found.whole_set(key, network),
            part.find("distilled", network, HARD if soft else ""),
            part.find("distilled", network, ""),
            found.beside(key, beside, network, ""),
            part.find("distilled", network, PLAIN),
            found.beside(key, beside, network, PLAIN),
        )
    )
    recovery = None if whole is None or hard is None else hard_label_recovery(whole, hard)
    better = None if own is None or random is None else improvement_over_random(own, random)
    bare = None if plain is None or plain_random is None else improvement_over_random(plain, plain_random)
    return {
        "HLR": recovery,
        "IOR": better,
        "LRS": None if recovery is None or better is None else label_robust_score(recovery, better),
        "ARS": None if better is None or bare is None else augmentation_robust_score(better, bare),
    }


def ranking_blocks(found: Found) -> list[Block]:
    """The scores of every distillation."""
    import pandas as pd

    plain = [{"set": f"{k.dataset}, {k.method}, from {k.init}", **scores(found, k)} for k in KEYS]
    shown = [
        {
            name: text if isinstance(text, str) else NOT_MEASURED if text is None else f"{text:.4f}"
            for name, text in r.items()
        }
        for r in plain
    ]
    caption = (
        "From accuracies as fractions. HLR: what hard labels lack to all images, low is good. IOR: above as many random real "
        "images with the same kind of labels. LRS, ARS: both robustness scores in [0, 1], w = γ = 0.5 (DD-Ranking, arXiv "
        "2505.13300); a set no better than random images, and as good as all images, has LRS and ARS 0.2689."
    )
    wholes = {
        one.record["epochs"] + 1
        for key in KEYS
        if (part := found.parts.get(key.part)) and (one := found.whole_set(key, part.run.distill["network"]))
    }
    if wholes:
        caption += f" “All images” was trained in {' or '.join(map(str, sorted(wholes)))} passes."
    tables = [part.run.search["evaluate"].get("also", {}).get(PLAIN) for part in found.parts.values()]
    if epochs := sorted({table["protocol"]["epochs"] for table in tables if table}):
        caption += f" Students without augmentation are trained for {' or '.join(map(str, epochs))} epochs."
    blocks: list[Block] = [Table("ranking", pd.DataFrame(plain), pd.DataFrame(shown), caption)]
    lacking = [k.part for k, row in zip(KEYS, plain, strict=True) if None in row.values()]
    if lacking:
        blocks.append(Missing(f"What says “{NOT_MEASURED}” is measured by this.", found.command(*lacking)))
    return blocks


def difference_blocks(found: Found) -> list[Block]:
    """Steps, random images, constant answers and labels: each reason with what was measured of it."""
    return [*_steps(found), *_random(found), *_constant(), *_labels(found)]


def _steps(found: Found) -> Iterator[Block]:
    """The same set under 50 epochs and longer."""
    lacking = []
    for table in TABLES:
        long = CROSS if table.network == "AlexNet" else ""
        for init, printed in (("noise", table.noise), ("real", table.real)):
            key = Key(table.dataset, table.method, init)
            short, more = (found.distilled(key, table.network, which) for which in (SHORT, long))
            if short is None or more is None:
                lacking.append(key.part)
                continue
            few, many = (found.parts[key.part].steps(one.record) for one in (short, more))
            yield Text(
                f"Steps, Table {table.number}: {table.network} on the {table.method} set of {table.dataset} from {init} "
                f"reaches {short.text} % after {few:,} steps, which is what {short.record['epochs']} epochs are on so few "
                f"images, and {more.text} % after {many:,}; the report printed {printed.accuracy:g} %."
            )
    if lacking:
        yield Missing(f"Steps: for the other sets, {NOT_MEASURED}.", found.command(*lacking))


def _random(found: Found) -> Iterator[Block]:
    """Random real images under the report's protocol, and trained long, beside its distilled ones."""
    lacking = []
    for table in TABLES:
        key = Key(table.dataset, table.method, "real")
        long = CROSS if table.network == "AlexNet" else ""
        for random in (found.beside(key, "random", table.network, which) for which in (SHORT, long)):
            if random is None:
                lacking.append(Key(table.dataset, "DataDAM", "real").part)
                continue
            sets = "; ".join(
                f"from {init} ({printed.accuracy:g} %) {_standing(printed.accuracy, random)}"
                for init, printed in (("real", table.real), ("noise", table.noise))
            )
            yield Text(
                f"Random images, Table {table.number}: as many random real images reach {random.text} % with {table.network} "
                f"after {random.record['epochs']} epochs ({random.interval}). The report's {table.method} sets: {sets}."
            )
    if lacking:
        yield Missing(f"Random images: for the other tables, {NOT_MEASURED}.", found.command(*lacking))


def _standing(printed: float, random: Measured) -> str:
    """Where a printed accuracy lies beside the interval of what random images reach."""
    gap = printed - random.percent
    said = f"is {abs(gap):.2f} points {'above' if gap >= 0 else 'below'} that"
    ends = random.ends
    if ends is None:
        return f"{said} (one draw, so by how much draws differ is not known)"
    return f"{said}, within the interval" if ends[0] <= printed <= ends[1] else said


def _constant() -> Iterator[Block]:
    """Which of the report's cells a constant answer explains, or beats; by the labels of the test images alone."""
    cells = [
        (t.number, t.dataset, name, value.accuracy)
        for t in TABLES
        for name, value in (("from noise", t.noise), ("from real", t.real), ("full", t.full))
    ]
    cells += [(n.table, n.dataset, f"from {n.init}, {n.best} {w}", v) for n in NAS for w, v in _nas_cells(n)]
    for dataset, answers in CONSTANT.items():
        told = " and ".join(f"“{a.what}” is right for {a.images:,} ({a.percent:.2f} %)" for a in answers)
        own = [cell for cell in cells if cell[1] == dataset]
        at = [cell for cell in own if any(abs(cell[3] - answer.percent) <= CLOSE for answer in answers)]
        below = [cell for cell in own if cell not in at and cell[3] < answers[0].percent]
        yield Text(
            f"Constant answers: of the {answers[0].of:,} test images of {dataset}, {told}. The report's cells that lie within "
            f"{CLOSE:g} points of such an answer: {_told(at)}. Those below the best of them: {_told(below)}."
        )


def _nas_cells(row: Any) -> tuple[tuple[str, float], ...]:
    return (("on the set", row.on_set), ("on all images", row.on_full))


def _told(cells: list[tuple[str, str, str, float]]) -> str:
    return ", ".join(f"Table {number} {name} ({value:g} %)" for number, _, name, value in cells) or "none"


def _labels(found: Found) -> Iterator[Block]:
    """What soft labels bring: the sets with their own and with hard ones, random images with the methods' labels."""
    lacking = []
    for key in (key for key in KEYS if key.method == "PAD"):
        part = found.parts.get(key.part)
        if part is not None and not part.soft:
            yield Text(f"Labels: the PAD set of {key.dataset} from {key.init} has hard labels.")
            continue
        network = "" if part is None else part.run.distill["network"]
        own, hard = (None if part is None else part.find("distilled", network, which) for which in ("", HARD))
        if part is None or own is None or hard is None:
            lacking.append(key.part)
            continue
        text = (
            f"Labels: the PAD set of {key.dataset} from {key.init} reaches {own.text} % with the soft labels learned with "
            f"it and {hard.text} % with hard ones ({network}, {own.record['epochs']} epochs)."
        )
        random = found.beside(key, "initial", network, "")
        if random is not None:
            text += f" Random real images with the experts' soft labels reach {random.text} %."
        yield Text(text)
    if lacking:
        yield Missing(f"Labels: for the other sets, {NOT_MEASURED}.", found.command(*lacking))
