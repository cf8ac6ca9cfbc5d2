"""DVC's remote: outputs sent and fetched, both checked."""
