"""The PRIST recipe written by a language model: elements, questions, a reasoning tree, dialogues."""
