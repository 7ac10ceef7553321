"""Fine-tuning an Emu3 language model in one or several processes."""
