"""Distillation methods and the loop around them."""
