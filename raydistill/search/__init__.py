"""Searching settings: the typed search, Optuna's suggestions, Ray Tune's trials."""
