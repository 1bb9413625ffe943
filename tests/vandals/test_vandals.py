"""A small campaign of vandals; ``make vandals`` runs a large one."""

from pathlib import Path

from tests.vandals.campaign import Campaign


def test_vandals_harm_nobody_else(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, seed=10, acts=300)
    campaign.run()
    assert campaign.findings == []
    assert campaign.acts >= 300
