"""Prefect flows: prose, no logic. A reader of the project starts here."""
