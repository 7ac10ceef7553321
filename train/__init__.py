"""Training: scene data, vision tokenizer training, supervised fine-tuning."""
