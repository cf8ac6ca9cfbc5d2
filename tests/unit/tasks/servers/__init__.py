"""The servers that a group shares."""
