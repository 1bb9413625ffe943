"""Output and files of jobs: who may read them, and how."""
