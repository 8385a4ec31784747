"""The whole suite deployed on a real Anvil.

fresh → complete, checked, roles as planned; again → nothing sent; crash at any step → goes on, deploys nothing twice;
other chain, other parameters, other deployer, other code → refused; admin with delay → deployer has nothing left
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from offchain.chain.anvil import Anvil
from offchain.chain.client import Chain
from offchain.chain.contracts import Suite
from offchain.chain.deployment import Deployment, Web3Executor
from offchain.chain.errors import ContractRevertedError, DeploymentError, WrongChainError
from offchain.chain.plan import Create
from offchain.chain.record import DeploymentRecord
from offchain.chain.toolchain import ROOT
from offchain.domain.errors import DomainError
from tests.integration.probe import deploy_probe, signers

CONTRACTS = 29
"""Of the whole suite, with a local currency."""


@pytest.fixture(scope="module")
def node():
    with Anvil(mining="batch") as node:
        yield node


@pytest.fixture
def chain(node):
    chain = Chain(node.url)
    snapshot = chain.request("evm_snapshot")
    yield chain
    chain.request("evm_revert", snapshot)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "31337.json"


class CrashError(Exception):
    """Stands for the end of the process."""


class CrashingExecutor(Web3Executor):
    """Ends before or after the transaction of the given number has been mined."""

    def __init__(self, chain, signer, *, at: int, after: bool):
        super().__init__(chain, signer)
        self.left, self.after = at, after

    def send(self, call):
        self.left -= 1
        if self.left < 0 and not self.after:
            raise CrashError
        receipt = super().send(call)
        if self.left < 0:
            raise CrashError
        return receipt


def _deploy(chain, path, given=None, deployer=0):
    return Deployment(Web3Executor(chain, signers()[deployer]), given, path=path).run()


def test_run_deploys_and_records_everything(chain, path):
    record = _deploy(chain, path)
    assert record.complete
    assert record == DeploymentRecord.read(path)
    assert len(record.contracts) == CONTRACTS
    market = record.contracts["FlexMarket"]
    assert market.arguments["clearingHouse"] == record.addresses["ClearingHouse"]
    assert market.tx.startswith("0x")
    assert market.block > 0
    assert record.roles["GUARDIAN"]["holders"] == [signers()[0].address]
    assert record.compiler["solc"]
    suite = Suite.open(chain, path)
    assert suite.call("ClearingHouse", "isModule", [suite.address("FlexSettlement")]) is True
    assert suite.call("EnergyToken", "balanceOf", [suite.address("TokenDesk")]) == 10**14


def test_run_sends_nothing_when_everything_is_there(chain, path):
    _deploy(chain, path)
    before = chain.totals().transactions
    assert Deployment(Web3Executor(chain, signers()[0]), path=path).remaining() == []
    _deploy(chain, path)
    assert chain.totals().transactions == before


@pytest.mark.parametrize("after", [False, True], ids=["before sending", "after mining"])
@pytest.mark.parametrize("at", [0, 14, 23, 25])
def test_run_goes_on_and_deploys_nothing_twice_when_it_crashed(chain, path, at, after):
    executor = CrashingExecutor(chain, signers()[0], at=at, after=after)
    with pytest.raises(CrashError):
        Deployment(executor, path=path).run()
    record = _deploy(chain, path)
    assert record.complete
    creations = sum(usage.transactions for (_, function), usage in chain.usage.items() if function == "constructor")
    assert creations == CONTRACTS
    Suite.open(chain, path)


def test_run_gives_governance_away_when_the_admin_is_another(chain, path):
    admin, guardian = signers()[1], signers()[2]
    registrar = signers()[3].address
    given = {
        "admin": admin.address,
        "admin_delay_seconds": 86_400,
        "guardian": guardian.address,
        "registrars": {registrar: "0x" + "11" * 32},
    }
    _deploy(chain, path, given)
    suite = Suite.open(chain, path)
    assert suite.call("AccessGovernor", "hasRole", [0, signers()[0].address])[0] is False
    assert suite.call("AccessGovernor", "hasRole", [0, admin.address]) == (True, 86_400)
    assert suite.call("ParticipantRegistry", "hasRole", [registrar, 7]) is True
    with pytest.raises(ContractRevertedError, match="AccessManagedUnauthorized"):
        suite.send(signers()[0], "FlexMarket", "pause")
    with pytest.raises(ContractRevertedError, match="AccessManagerNotScheduled"):
        suite.send(admin, "FlexMarket", "unpause")
    assert suite.send(guardian, "FlexMarket", "pause").ok


def test_run_uses_a_payment_token_that_is_there(chain, path):
    currency = _deploy(chain, path).addresses["LocalCurrency"]
    other = path.with_name("other.json")
    record = _deploy(chain, other, {"payment_token": currency})
    assert record.addresses["LocalCurrency"] == currency
    assert "ISSUER" not in record.roles


def test_open_raises_when_the_file_is_of_another_chain(chain, path):
    _deploy(chain, path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"chain_id": 1}))
    with pytest.raises(WrongChainError, match="is chain 31337, expected chain 1"):
        _deploy(chain, path)
    with pytest.raises(WrongChainError):
        Suite.open(chain, path)


def test_open_raises_when_the_chain_was_reset(chain, path):
    snapshot = chain.request("evm_snapshot")
    _deploy(chain, path)
    chain.request("evm_revert", snapshot)
    with pytest.raises(DeploymentError, match=r"there is no contract at .* expected AccessGovernor"):
        _deploy(chain, path)


def test_open_raises_when_another_contract_is_there(chain, path):
    _deploy(chain, path)
    content = json.loads(path.read_text())
    content["contracts"]["FlexMarket"]["address"] = content["contracts"]["FlexDispatch"]["address"]
    path.write_text(json.dumps(content))
    with pytest.raises(DeploymentError, match=r"there is another contract at .* expected FlexMarket"):
        Suite.open(chain, path)


def test_open_raises_when_the_deployment_is_not_finished(chain, path):
    with pytest.raises(CrashError):
        Deployment(CrashingExecutor(chain, signers()[0], at=20, after=True), path=path).run()
    with pytest.raises(DeploymentError, match="is not finished"):
        Suite.open(chain, path)


def test_run_raises_when_parameters_or_deployer_changed(chain, path):
    with pytest.raises(CrashError):
        Deployment(CrashingExecutor(chain, signers()[0], at=20, after=True), path=path).run()
    with pytest.raises(DeploymentError, match="begun with regulated_rate = 250000, now it is 1"):
        _deploy(chain, path, {"regulated_rate": 1})
    with pytest.raises(DeploymentError, match="was begun by"):
        _deploy(chain, path, deployer=1)


def test_run_raises_when_the_sources_changed_in_between(chain, path):
    with pytest.raises(CrashError):
        Deployment(CrashingExecutor(chain, signers()[0], at=20, after=True), path=path).run()
    content = json.loads(path.read_text())
    content["contracts"]["GridRegistry"]["bytecode_hash"] = "0x" + "00" * 32
    path.write_text(json.dumps(content))
    with pytest.raises(DeploymentError, match=r"GridRegistry at .* other sources"):
        _deploy(chain, path)


def test_run_raises_when_a_getter_disagrees(chain, path, monkeypatch):
    deployment = Deployment(Web3Executor(chain, signers()[0]), path=path)
    monkeypatch.setattr(deployment, "parameters", deployment.parameters.model_copy(update={"regulated_rate": 5}))
    real = deployment._resolve

    def tampered(args):
        values = real(args)
        return [7 if value == 5 else value for value in values]

    monkeypatch.setattr(deployment, "_resolve", tampered)
    with pytest.raises(DeploymentError, match=r"GridRegime.regulatedRate\(\) is 7, expected 5"):
        deployment.run()
    assert not DeploymentRecord.read(path).complete


def test_existing_payment_token_raises_when_there_is_no_contract(chain, path):
    with pytest.raises(DeploymentError, match="no contract at"):
        _deploy(chain, path, {"payment_token": "0x" + "12" * 20})


def test_lost_creation_is_not_adopted_when_another_contract_is_there(chain, path):
    with pytest.raises(CrashError):
        Deployment(CrashingExecutor(chain, signers()[0], at=3, after=False), path=path).run()
    deploy_probe(chain)  # takes the nonce that MeterRegistry was to have
    with pytest.raises(DeploymentError, match="is not MeterRegistry"):
        _deploy(chain, path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"desk_stock": 10**16}, "more than the issue"),
        ({"treasury": "0x" + "12" * 20}, "cannot stock the desk"),
        ({"admin": "nobody"}, "parameter admin: .* not an address"),
        ({"speed": 1}, "parameter speed"),
        ({"settle_by_seconds": 1}, "must rise in this order"),
        ({"bond_hold_seconds": 33 * 86_400 - 1}, "ends before a day two days ahead"),
        ({"registrars": {"0x" + "12" * 20: "0x11"}}, "not 32 bytes"),
    ],
)
def test_parameters_are_refused_in_one_line(chain, path, given, message):
    with pytest.raises(DomainError, match=message):
        _deploy(chain, path, given)
    assert not path.exists()


def test_plan_has_every_deployable_contract(chain, path):
    deployment = Deployment(Web3Executor(chain, signers()[0]), path=path)
    created = [step.contract for step in deployment.plan.steps if isinstance(step, Create)]
    assert len(created) == len(set(created)) == CONTRACTS
    assert "create FlexSettlement" in deployment.describe()


@pytest.mark.long
def test_brownie_script_deploys_what_gridpact_verifies(tmp_path):
    """In a copy of the project, with a home of its own: Brownie writes to both."""
    project, home = tmp_path / "project", tmp_path / "home"
    for folder in ("contracts", "interfaces", "offchain", "scripts"):
        shutil.copytree(ROOT / folder, project / folder)
    shutil.copy(ROOT / "brownie-config.yaml", project)
    for folder in (".venv", "node_modules"):
        (project / folder).symlink_to(ROOT / folder)
    with Anvil() as node:
        (home / ".brownie").mkdir(parents=True)
        (home / ".brownie" / "network-config.yaml").write_text(
            "live: []\ndevelopment:\n- {name: Test, id: gridpact-test, host: 'http://127.0.0.1', cmd: anvil, "
            f"timeout: 60, cmd_settings: {{port: {node.port}}}}}\n"
        )
        path = tmp_path / "31337.json"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "offchain.chain.toolchain",
                "brownie",
                "run",
                "deploy",
                "--network",
                "gridpact-test",
            ],
            cwd=project,
            env=os.environ | {"HOME": str(home), "GRIDPACT_DEPLOYMENT": str(path), "GRIDPACT_YES": "1"},
            capture_output=True,
            text=True,
        )
        assert "deployed and checked" in done.stdout, done.stdout + done.stderr
        chain = Chain(node.url)
        assert Deployment(Web3Executor(chain, signers()[0]), path=path).run().complete
        assert chain.totals().transactions == 0
        assert len(Suite.open(chain, path).addresses) == CONTRACTS
