"""``gridpact audit`` on the evidence that a chain of its own left: exit codes, first difference, clear errors."""

import json
import shutil
import subprocess
import sys
from hashlib import sha256

import pytest

from offchain.audit.source import CHAIN_STATE, DEPLOYMENT, STORE
from offchain.chain.anvil import MNEMONIC, Anvil
from offchain.chain.client import Chain
from offchain.chain.deployment import Deployment, Web3Executor
from offchain.chain.signers import mnemonic_signers
from offchain.store import open_store
from offchain.store.batches import Batch, BatchKind, BatchStatus, insert_batch
from tests.offchain.audit import world


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """Folder of a suite that was deployed and stocked with tokens, on a real Anvil."""
    folder = tmp_path_factory.mktemp("pilot")
    with Anvil(state=folder / CHAIN_STATE) as node:
        executor = Web3Executor(Chain(node.url), mnemonic_signers(MNEMONIC, 1)[0])
        Deployment(executor, path=folder / DEPLOYMENT).run()
    open_store(folder / STORE).close()
    return folder


@pytest.fixture
def folder(left, tmp_path):
    return shutil.copytree(left, tmp_path / "pilot")


def gridpact_audit(folder, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "offchain.cli.main", "audit", "--pilot", str(folder), "--quiet", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_audit_exits_0_with_a_table_when_all_is_in_order(folder):
    done = gridpact_audit(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "all in order" in done.stdout
    assert "conservation" in done.stdout


def test_audit_prints_json_alone_when_asked(folder):
    done = gridpact_audit(folder, "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert report["checked"]["tokens"] > 0


def test_audit_leaves_the_evidence_as_it_was(folder):
    before = {path.name: sha256(path.read_bytes()).digest() for path in folder.iterdir()}
    assert gridpact_audit(folder).returncode == 0
    assert {path.name: sha256(path.read_bytes()).digest() for path in folder.iterdir()} == before


def test_audit_exits_1_naming_the_first_difference_when_the_store_was_changed(folder):
    forged = Batch(
        *(0, BatchKind.DAY, world.OPERATOR, 7, 96, 1, bytes(32), 1, bytes(32)), BatchStatus.CONFIRMED, None, 1
    )
    with open_store(folder / STORE) as store, store.write() as connection:
        insert_batch(connection, forged)
    done = gridpact_audit(folder, "--json")
    assert done.returncode == 1
    assert done.stderr.startswith("error: batch in the store that was never anchored at")
    assert len(json.loads(done.stdout)["mismatches"]) == 1


@pytest.mark.parametrize("name", [CHAIN_STATE, DEPLOYMENT, STORE])
def test_audit_names_the_file_when_it_is_missing(folder, name):
    (folder / name).unlink()
    done = gridpact_audit(folder)
    assert done.returncode not in (0, 1)
    assert str(folder / name) in done.stderr
    assert "gridpact pilot" in done.stderr


@pytest.mark.parametrize("name", [CHAIN_STATE, DEPLOYMENT, STORE])
def test_audit_fails_in_two_lines_when_a_file_is_something_else(folder, name):
    (folder / name).write_text("something else")
    done = gridpact_audit(folder)
    assert done.returncode not in (0, 1)
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) <= 2


def test_audit_names_the_endpoint_when_nobody_answers(folder):
    done = gridpact_audit(folder, "--rpc", "http://127.0.0.1:9")
    assert done.returncode not in (0, 1)
    assert "http://127.0.0.1:9" in done.stderr


def test_audit_refuses_another_chain_when_the_deployment_is_of_this_one(folder):
    with Anvil(chain_id=1_234) as node:
        done = gridpact_audit(folder, "--rpc", node.url)
    assert done.returncode not in (0, 1)
    assert "1234" in done.stderr


def test_audit_reads_a_running_chain_when_given_its_endpoint(folder):
    with Anvil(state=folder / CHAIN_STATE) as node:
        done = gridpact_audit(folder, "--rpc", node.url)
    assert done.returncode == 0, done.stderr
