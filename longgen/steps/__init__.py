"""What the workflow does for an experiment up to its figures, one step after the other in one process.

    python -m longgen.steps CONFIG --minutes 9 --pieces FOLDER

For machines that are lent for minutes and are bare each time: it needs neither Snakemake nor Slurm, stops when its
time is over, and goes on, there or elsewhere, from a few small files.
"""
