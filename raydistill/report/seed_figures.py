"""The seed report's own figures: its Tables I to XII as it printed them, and which of its Figures 1 to 12 shows what.

Nothing here is measured by raydistill, and nothing is rounded or mended.
"""

from typing import NamedTuple

from raydistill.report.nas_blocks import SEED_REPORT, Seed


class Printed(NamedTuple):
    """A cell: accuracy in per cent, and the seconds beside it as printed (empty: none)."""

    accuracy: float
    seconds: str = ""


class SeedTable(NamedTuple):
    """One of the eight tables of accuracies."""

    number: str
    dataset: str
    method: str
    network: str
    full: Printed
    noise: Printed
    real: Printed


TABLES = (
    SeedTable("I", "MNIST", "DataDAM", "ConvNetD3", Printed(99.49, "427"), Printed(74.44, "<1"), Printed(91.81, "<1")),
    SeedTable("II", "MNIST", "DataDAM", "AlexNet", Printed(99.19, "562"), Printed(17.9), Printed(23.48)),
    SeedTable(
        "III", "MHIST", "DataDAM", "ConvNetD7", Printed(80.14, "372"), Printed(53.63, "10"), Printed(63.87, "10")
    ),
    SeedTable("IV", "MHIST", "DataDAM", "AlexNet", Printed(68.37, "400"), Printed(63.15, "17"), Printed(36.87, "18")),
    SeedTable("VII", "MNIST", "PAD", "ConvNetD3", Printed(99.43, "452"), Printed(7.47, "<1"), Printed(68.62, "<1")),
    SeedTable("VIII", "MNIST", "PAD", "AlexNet", Printed(99.15, "504"), Printed(4.68), Printed(13.68)),
    SeedTable("IX", "MHIST", "PAD", "ConvNetD7", Printed(80.59, "225"), Printed(54.65, "<8"), Printed(55.37, "<8")),
    SeedTable("X", "MHIST", "PAD", "AlexNet", Printed(68.98, "401"), Printed(55.785, "18"), Printed(54.04, "18")),
)
"Accuracies on the test images after 50 epochs, by what the network was trained on."

NAS = SEED_REPORT
"Tables V, VI, XI and XII."

FIGURES = {
    ("MNIST", "DataDAM", "real"): "Figures 1 and 2",
    ("MNIST", "DataDAM", "noise"): "Figure 3",
    ("MHIST", "DataDAM", "real"): "Figures 4 and 5",
    ("MHIST", "DataDAM", "noise"): "Figure 6",
    ("MNIST", "PAD", "real"): "Figures 7 and 8",
    ("MNIST", "PAD", "noise"): "Figure 9",
    ("MHIST", "PAD", "real"): "Figures 10 and 11",
    ("MHIST", "PAD", "noise"): "Figure 12",
}
"Before and after; from real images the second figure is the difference."


class Constant(NamedTuple):
    """What answering the same class to every test image gets right."""

    images: int
    of: int
    what: str

    @property
    def percent(self) -> float:
        """Of the test images."""
        return 100 * self.images / self.of


CONSTANT = {
    "MNIST": (Constant(1135, 10000, "every image a 1"),),
    "MHIST": (Constant(617, 977, "every image HP"), Constant(360, 977, "every image SSA")),
}
"By the labels of the test images; the best first."


def nas_table(dataset: str, method: str) -> dict[str, Seed]:
    """Initialisation → the report's row of its NAS on sets of this kind."""
    return {row.init: row for row in NAS if (row.dataset, row.method) == (dataset, method)}
