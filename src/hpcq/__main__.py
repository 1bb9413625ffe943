"""Run the ``hpcq`` command: ``python -m hpcq serve``."""

from hpcq.cli.main import app

app(prog_name="hpcq")
