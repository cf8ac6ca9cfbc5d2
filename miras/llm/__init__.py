"""Asking a language model: typed answers, a cache of what was paid, a hard budget, a batch service.

`open_model` (`miras.llm.asking`) gives something that answers `Prompt`s; `Estimator` (`miras.llm.estimating`) says
beforehand what they will cost. What is asked and what is done with the answers is the caller's.
"""
