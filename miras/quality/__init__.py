"""Checks with Great Expectations, quarantine and Data Docs; the split by picture."""
