// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title The only rounding functions of settlement
/// @notice Twin of `offchain/domain/units.py`, equal to the last digit. Who pays rounds up, who receives rounds down.
/// @dev Worked: 1,500 Wh at 333 uToken/kWh are 499.5 uToken: 499 to the receiver, 500 from the payer.
/// One payment leaves a residual of at most 1 uToken. Products beyond 256 bits revert.
library Money {
    uint256 internal constant WH_PER_KWH = 1_000;
    uint256 internal constant BPS = 10_000;

    /// @notice Money for energy, rounded down: for whoever receives, uToken.
    function costDown(uint256 energyWh, uint256 priceUtokenPerKwh) internal pure returns (uint256) {
        return (energyWh * priceUtokenPerKwh) / WH_PER_KWH;
    }

    /// @notice Money for energy, rounded up: for whoever pays or reserves, uToken.
    function costUp(uint256 energyWh, uint256 priceUtokenPerKwh) internal pure returns (uint256) {
        return (energyWh * priceUtokenPerKwh + WH_PER_KWH - 1) / WH_PER_KWH;
    }

    /// @notice `amount` times a share in basis points, rounded down.
    function shareDown(uint256 amount, uint256 bps) internal pure returns (uint256) {
        return (amount * bps) / BPS;
    }
}
