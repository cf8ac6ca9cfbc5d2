"""Where training runs: launch profiles and the places they name. Never changes a result, so no stage depends on it."""
