"""Experts: how hard each image is, what an expert sees when, and the trajectories that matching reads."""
