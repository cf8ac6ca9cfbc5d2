"""What ties the flows to Prefect: its API, log, pages, automations and workers."""
