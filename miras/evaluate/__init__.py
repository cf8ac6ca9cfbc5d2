"""How good a model is: predictions on held-out pictures, scores, baselines, galleries, the report."""
