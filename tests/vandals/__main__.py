"""``make vandals``: jobs of LOCAL that damage their own run directories and processes."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.vandals.campaign import Campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="make vandals")
    parser.add_argument("--acts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="hpcq-vandals-"))
    print(f"seed {options.seed}, in {directory}", flush=True)
    campaign = Campaign(directory, options.seed, options.acts)
    began = time.monotonic()
    campaign.run()
    print(
        f"{campaign.acts} acts by {campaign.jobs} jobs, {campaign.starts} starts of the service, "
        f"{time.monotonic() - began:.0f} s, {len(campaign.findings)} findings"
    )
    print(*campaign.findings, sep="\n")
    return 1 if campaign.findings else 0


if __name__ == "__main__":
    sys.exit(main())
