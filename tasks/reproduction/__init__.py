"""The runs behind a paper's table, and what they would cost."""
