"""The language side of Emu3: one causal transformer over text ids and visual ids."""
