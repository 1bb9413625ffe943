"""Small campaigns of vandals; ``make vandals`` runs a large one."""

import os
import shutil
from pathlib import Path

import pytest
from tests.accounts import made_accounts, make_folder
from tests.vandals.campaign import Campaign


def test_vandals_same_account(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=10, acts=300)
    campaign.run()
    assert campaign.findings == []
    assert campaign.acts >= 300


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run jobs as other accounts")
def test_vandals_other_account() -> None:
    directory = make_folder("hpcq-t-vandals-")
    with made_accounts(2, directory) as accounts:
        campaign = Campaign(directory, 10, 300, accounts)
        campaign.run()
    assert campaign.findings == []
    assert campaign.acts >= 300
    shutil.rmtree(directory)
