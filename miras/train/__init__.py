"""Training: mixture of dialogues, batches, the loop, checkpoints."""
