"""What ties the flows to Prefect."""
