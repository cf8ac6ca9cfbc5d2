"""Tests of miras.reproduce."""
