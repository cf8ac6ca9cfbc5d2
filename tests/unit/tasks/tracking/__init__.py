"""From the spool to MLflow."""
