"""``make vandals``: jobs of LOCAL that damage their own run directories and processes.

With ``--account`` they run as other accounts, which only root can make.
"""

import argparse
import contextlib
import sys
import time

from tests.accounts import made_accounts, make_folder
from tests.vandals.campaign import Campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="make vandals")
    parser.add_argument("--acts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--account", action="store_true")
    options = parser.parse_args()
    directory = make_folder("hpcq-vandals-")
    print(f"seed {options.seed}, in {directory}", flush=True)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        made = made_accounts(2, directory)
        accounts = stack.enter_context(made) if options.account else ()
        campaign = Campaign(directory, options.seed, options.acts, accounts)
        campaign.run()
    print(
        f"{campaign.acts} acts by {campaign.jobs} jobs, {campaign.starts} starts of the service, "
        f"{time.monotonic() - began:.0f} s, {len(campaign.findings)} findings"
    )
    print(*campaign.findings, sep="\n")
    return 1 if campaign.findings else 0


if __name__ == "__main__":
    sys.exit(main())
