"""A language model as judge: how well a model's dialogues reason, beside the reference dialogues and people's scores.

`miras judge` (`miras.evaluate.judge.command`) reads an evaluation's questions and predictions, asks the judge through
the client of the teacher, and writes verdicts and scores.
"""
