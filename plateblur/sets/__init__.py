"""What a data set is: its layout on disk, labels, corrections, merging and metrics.

`datasets/` holds a recipe for each set, `training/` what is trained on them and measured. Fetching,
merging and foreign label forms need the extra `data`; the other files need the base install alone.
"""
