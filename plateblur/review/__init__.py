"""A page to look through the photos of a run and correct what is hidden, served to this machine."""
