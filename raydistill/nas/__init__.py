"""Ranking networks on a distilled set."""
