"""emu3-mini: its world of drawn scenes, its training, its evaluation."""
