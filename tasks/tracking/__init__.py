"""From a stage to MLflow: what is recorded, the files it waits in, and what sends it."""
