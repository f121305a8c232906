"""SLURM: submission, the job, the queue and the watch over both; nothing else calls its commands."""
