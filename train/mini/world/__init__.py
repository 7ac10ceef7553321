"""The world of emu3-mini: what it shows, how it is composed, moves, is drawn, named and read."""
