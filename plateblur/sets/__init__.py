"""What a data set is: its layout on disk, labels, corrections, merging and metrics.

`datasets/` has a recipe for each set, and `training/` trains and measures on them. Fetching,
merging and other label formats need the extra `data`; the rest needs only the base install.
"""
