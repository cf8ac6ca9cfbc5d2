"""What is sent to DVC's remote and fetched from it."""
