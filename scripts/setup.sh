#!/usr/bin/env bash
# Sets the repository up: virtual environment in .venv, npm packages in node_modules, the compiler where py-solc-x looks.
# Usage: scripts/setup.sh python|node. Called by make; PYTHON names an interpreter to prefer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
    echo "setup: $1 ($2)" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    die "no Python 3.11 or newer found" "install it, or name it: make PYTHON=/path/to/python3.11"
}

setup_python() {
    local python
    python="$(find_python)"
    echo "setup: Python packages into .venv, one to three minutes the first time" >&2
    "$python" -m venv .venv ||
        die "$python cannot make a virtual environment" "on Debian and Ubuntu: apt install python3-venv"
    .venv/bin/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev]' ||
        die "pip could not install the Python packages" "see above; is the package index reachable?"
    mkdir -p .venv/solcx
    ln -sfn ../../scripts/solc-npm .venv/solcx/solc-v0.8.30
    touch .venv/.installed
}

setup_node() {
    local version
    version="$(node --version 2>/dev/null)" || die "Node.js not found" "install Node 20 or newer"
    version="${version#v}"
    ((${version%%.*} >= 20)) || die "Node $version is too old" "install Node 20 or newer"
    command -v npm >/dev/null || die "npm not found" "install it beside Node"
    npm ci --silent || die "npm could not install the packages of package-lock.json" "run npm ci to see why"
    touch node_modules/.installed
}

"setup_$1"
