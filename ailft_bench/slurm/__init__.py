"""SLURM: submission, the job, the queue and the watch over both; nothing else in the package talks to it."""
