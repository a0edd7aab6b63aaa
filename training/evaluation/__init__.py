"""How well a detector finds and hides plates: what `python -m training.evaluate` is made of."""
