"""Schemathesis against the reference server and its OpenAPI document.

    python tests/stress/openapi.py [--examples 100] [--seed 1]

Requests are generated from the document, with values at the borders of what it allows and beyond them, and every
answer is compared with it. Left out is that a request which the document allows may be refused: rules that concern
several fields, and serde's difference between 1 and 1.0, are not in the document. What it forbids must be refused;
random numbers are left out there, because TGI's limits hold for a number as float32 (2.0000000000000004 is 2).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from hfstream.server import BackgroundServer, Settings

PHASES = {"coverage": "positive_data_acceptance", "fuzzing": "positive_data_acceptance,negative_data_rejection"}
"""schemathesis' phases, and the checks that are left out in each."""


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compare the server with its OpenAPI document.")
    parser.add_argument("--examples", type=int, default=100, help="random requests per route (default: 100)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the requests (default: 1)")
    arguments = parser.parse_args()
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if program is None:
        parser.error("schemathesis is not installed: run `nox -s openapi`")
    failed = 0
    with BackgroundServer(Settings(max_concurrent_requests=8)) as server:
        for phase, left_out in PHASES.items():
            command = [program, "run", f"{server.url}/openapi.json", "--phases", phase, "--exclude-checks", left_out]
            command += ["--max-examples", str(arguments.examples), "--seed", str(arguments.seed)]
            failed |= subprocess.run([*command, "--request-timeout", "60"], check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
