"""How emu3-mini's language model is trained: its tokenizer, samples of every task, their course."""
