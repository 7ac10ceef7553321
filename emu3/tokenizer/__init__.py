"""The vision side of Emu3: pixels to codes and back."""
