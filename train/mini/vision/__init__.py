"""How emu3-mini's vision tokenizer is trained: what it sees, its steps, and their course."""
