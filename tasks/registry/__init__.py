"""Versions in MLflow's registry: made, described, compared, promoted and put back."""
