"""A run over many photos: what there is to do, and doing it on all cores."""
