"""Evaluations of a model on files that people point to: prompts, pictures, questions."""
