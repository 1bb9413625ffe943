"""Slurm: jobs into sbatch, answers of squeue, sacct and sstat into jobs."""
