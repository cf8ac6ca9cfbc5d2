"""The servers started by us: a workspace's own, and those that a group shares."""
