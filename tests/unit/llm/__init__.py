"""Tests of miras.llm."""
