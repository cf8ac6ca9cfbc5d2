"""The chat page: `miras chat`."""
