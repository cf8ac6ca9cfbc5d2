"""`miras doctor`: what is wrong with this machine or this workspace, and what to do about it."""

from miras.doctor.examination import examine
from miras.doctor.findings import Finding, Level, as_json, as_text

__all__ = ["Finding", "Level", "as_json", "as_text", "examine"]
