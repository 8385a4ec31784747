// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {Curves} from "contracts/metering/Curves.sol";

/// @title Opens {Curves} to tests: values one by one, and the gas of an unchecked loop that sums them
contract CurvesHarness {
    using Curves for bytes;

    function quantities(bytes calldata curve) external view returns (uint256[] memory wh, uint256 gasUsed) {
        uint256 n = curve.length / 4;
        wh = new uint256[](n);
        gasUsed = gasleft();
        uint256 sum;
        unchecked {
            for (uint256 p = 0; p < n; ++p) sum += curve.quantity(p);
        }
        gasUsed -= gasleft();
        assert(sum == curve.total());
        for (uint256 p = 0; p < n; ++p) wh[p] = curve.quantity(p);
    }

    function baseline(bytes calldata curve) external view returns (int256[] memory netWh, uint256 gasUsed) {
        uint256 n = curve.length / 4;
        netWh = new int256[](n);
        gasUsed = gasleft();
        int256 sum;
        unchecked {
            for (uint256 p = 0; p < n; ++p) sum += curve.baseline(p);
        }
        gasUsed -= gasleft();
        for (uint256 p = 0; p < n; ++p) sum -= netWh[p] = curve.baseline(p);
        assert(sum == 0);
    }

    function readings(
        bytes calldata curve
    )
        external
        view
        returns (uint256[] memory importWh, uint256[] memory exportWh, bool[] memory missing, uint256 gasUsed)
    {
        uint256 n = curve.length / 8;
        (importWh, exportWh, missing) = (new uint256[](n), new uint256[](n), new bool[](n));
        gasUsed = gasleft();
        int256 sum;
        unchecked {
            for (uint256 p = 0; p < n; ++p) {
                (uint256 import_, uint256 export_, bool isMissing) = curve.reading(p);
                if (!isMissing) sum += int256(import_) - int256(export_);
            }
        }
        gasUsed -= gasleft();
        for (uint256 p = 0; p < n; ++p) {
            (importWh[p], exportWh[p], missing[p]) = curve.reading(p);
            if (!missing[p]) sum -= int256(importWh[p]) - int256(exportWh[p]);
        }
        assert(sum == 0);
    }

    /// @param tail Anything: lies behind the curve in calldata and must not count.
    function total(bytes calldata curve, bytes calldata tail) external view returns (uint256 wh, uint256 gasUsed) {
        assert(tail.length < type(uint32).max);
        gasUsed = gasleft();
        wh = curve.total();
        gasUsed -= gasleft();
    }

    function lengths(bytes calldata curve, uint256 ispCount) external pure returns (bool, bool, bool) {
        return (curve.isQuantities(ispCount), curve.isBaseline(ispCount), curve.isReadings(ispCount));
    }
}
