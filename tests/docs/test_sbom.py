"""The bill of materials names every package that a service is installed with."""

import json
import re
import subprocess

from hpcq.schedulers.testing.service import INSTALLATION


def test_sbom_of_locked_packages() -> None:
    subprocess.run(["make", "sbom"], cwd=INSTALLATION, check=True, capture_output=True)
    sbom = json.loads((INSTALLATION / "dist" / "sbom.cdx.json").read_text())
    locked = (INSTALLATION / "requirements.txt").read_text()
    named = {(part["name"], part["version"]) for part in sbom["components"]}
    assert named == set(re.findall(r"^([^\s=]+)==([^\s;]+)", locked, re.M))
    assert sbom["metadata"]["component"]["name"] == "hpc-queue-api"
    hashes = [part["externalReferences"][0]["hashes"] for part in sbom["components"]]
    assert all(one["alg"] == "SHA-256" for (one, *_) in hashes)
