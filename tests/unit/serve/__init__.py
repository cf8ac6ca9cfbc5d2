"""The HTTP interface, asked over real connections."""
