"""The report and the export: what people and other programs see of a run."""
