"""Tests of the written recipe."""
