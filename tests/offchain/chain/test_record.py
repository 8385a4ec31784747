"""same_code: equal, immutables, other; read: missing, not a file of ours, another schema"""

import pytest

from offchain.chain.errors import DeploymentError
from offchain.chain.record import DeploymentRecord, same_code


@pytest.mark.parametrize(
    ("artifact", "code", "same"),
    [
        ("0x6001", "6001", True),
        ("0x60007f0001", "60aa7fbb01", True),
        ("0x6001", "6002", False),
        ("0x6001", "600100", False),
        ("0x6001", "", False),
    ],
)
def test_same_code_ignores_immutables_alone(artifact, code, same):
    assert same_code(artifact, bytes.fromhex(code)) is same


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "contracts": {"A": {}}}'])
def test_read_raises_one_line_when_the_file_is_not_ours(tmp_path, content):
    path = tmp_path / "1.json"
    path.write_text(content)
    with pytest.raises(DeploymentError, match="is not a deployment file"):
        DeploymentRecord.read(path)


def test_read_raises_with_a_hint_when_there_is_no_file(tmp_path):
    with pytest.raises(DeploymentError, match="no deployment file") as caught:
        DeploymentRecord.read(tmp_path / "1.json")
    assert "gridpact deploy" in caught.value.hint


def test_write_leaves_no_partial_file_and_reads_back(tmp_path):
    record = DeploymentRecord(tmp_path / "x" / "1.json", 1, "0x" + "11" * 20, {"a": 1}, {}, "0x", None)
    record.write()
    assert [path.name for path in record.path.parent.iterdir()] == ["1.json"]
    assert DeploymentRecord.read(record.path) == record
