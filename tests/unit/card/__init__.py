"""Tests of the data set card, its statistics and the exports."""
