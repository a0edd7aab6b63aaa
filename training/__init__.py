"""Training the detector, from data to the shipped model; `python -m training` lists the steps."""
