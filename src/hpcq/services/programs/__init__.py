"""Programs that users can run: what is installed, and jobs that name one."""
