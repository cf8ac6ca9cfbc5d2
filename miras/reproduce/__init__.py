"""The papers' tables: their figures, the runs that their rows need, and our figures beside them. Light: no torch."""
