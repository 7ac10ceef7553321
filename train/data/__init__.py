"""Training data: records -> features -> rows of tokens and labels."""
