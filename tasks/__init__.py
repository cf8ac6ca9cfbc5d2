"""Adapters from miras to Prefect, DVC and MLflow; no domain logic lives here."""
