"""emu3-mini learns from its own pictures: those that show what was asked for become likelier."""
