"""Start the service with the settings and the state of this file's folder, wherever it is run."""

import sys
from pathlib import Path

# The code beside this file is what runs, whether or not the package is installed too.
sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from hpcq.cli.serve import serve

if __name__ == "__main__":
    sys.exit(serve(Path(__file__).resolve().parent))
