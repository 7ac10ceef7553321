"""How emu3-mini is measured: what it is asked, and what the judge says of its answers."""
