"""Readers: each yields `SourcePicture`s from one kind of source (rendered scenes, annotation files)."""
