"""The service's address: where it is taken from."""

from pathlib import Path

import pytest

from hpcq.client import address
from hpcq.client.address import Address, find_address, profile_file
from hpcq.client.errors import ProfileError

PROFILES = """
[default]
url = "https://queue.example"
token = "secret"

[test]
url = "http://test.example:5049/api"
"""


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    file = tmp_path / ".config" / "hpcq" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(PROFILES)
    return {"HOME": str(tmp_path)}


def test_address_default_profile(home: dict[str, str]) -> None:
    assert find_address(environment=home) == Address("https://queue.example", "secret")


def test_address_named_profile(home: dict[str, str]) -> None:
    there = Address("http://test.example:5049/api")
    assert find_address(profile="test", environment=home) == there
    assert find_address(environment={**home, "HPCQ_PROFILE": "test"}) == there


def test_address_environment_over_profile(home: dict[str, str]) -> None:
    elsewhere = {**home, "HPCQ_URL": "https://other.example"}
    assert find_address(environment=elsewhere) == Address("https://other.example", None)
    with_token = find_address(environment={**home, "HPCQ_TOKEN": "mine"})
    assert with_token == Address("https://queue.example", "mine")


def test_address_arguments_first(home: dict[str, str]) -> None:
    elsewhere = {**home, "HPCQ_URL": "https://other.example", "HPCQ_TOKEN": "mine"}
    assert find_address("unix:/s", "t", environment=elsewhere) == Address("unix:/s", "t")
    assert find_address(profile="test", environment=elsewhere).url.startswith("http://test.")


def test_address_without_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "SOCKET", tmp_path / "hpcq.sock")
    environment = {"HOME": str(tmp_path)}
    assert find_address(environment=environment) == Address("http://127.0.0.1:5049")
    (tmp_path / "hpcq.sock").touch()
    found = find_address(environment=environment)
    assert (found.socket, found.base_url) == (f"{tmp_path}/hpcq.sock", "http://localhost")
    assert found.is_local


@pytest.mark.parametrize(
    "content",
    [
        "[other]\nurl = 'https://queue.example'\n",
        "[named]\ntoken = 't'\n",
        "[named]\nurl = 1\n",
        "[named]\nurl = 'https://queue.example'\ntokn = 't'\n",
        "[named]\nurl = 'queue.example'\n",
        "[named]\nurl = 'https://queue.example'\ntoken = \"a\\nb\"\n",
        "named = 'https://queue.example'\n",
        "[named\n",
    ],
)
def test_profiles_invalid(content: str, home: dict[str, str]) -> None:
    profile_file(home).write_text(content)
    with pytest.raises(ProfileError):
        find_address(profile="named", environment=home)


@pytest.mark.parametrize(
    ("url", "checks"),
    [
        ("http://127.0.0.1:5049", False),
        ("unix:/run/hpcq/hpcq.sock", False),
        ("https://localhost", True),
        ("http://head.cluster.example", True),
        ("https://head.cluster.example", True),
    ],
)
def test_certificates_with_https_only(url: str, checks: bool) -> None:
    assert Address(url).may_be_encrypted is checks
