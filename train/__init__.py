"""Training: data, fine-tuning, emu3-mini, and measurements; the commands lie on top."""
