// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Standing rules by which bids and offers are placed automatically
/// @notice A prosumer signs once at what prices and which share of its forecast may be traded; software brings the
/// orders, session after session, and each order is checked against the rule and a committed forecast.
/// Source: eDREAM D2.2 HL-UC02_LL-UC01 (market smart contracts that define a prosumer's energy trading rules).
/// @dev For a delivery period whose forecast net consumption is n (import minus export, Wh, sum over its ISPs), the
/// buys may add up to down(max(n, 0) * shareBps / 10^4), the sells to down(max(-n, 0) * shareBps / 10^4), over both types.
/// The hour of a period is that of its beginning, UTC. A buy needs a limit price <= buyLimits[hour], a sell one >=
/// sellLimits[hour]; the smallest and the largest int64 mean "never".
/// An ISP of a committed forecast is traded in one session only: with the same forecast in two sessions that overlap, a
/// rule would trade its share twice. A later session needs a forecast that was committed for it, of what is open then.
/// One bundle in a session, only where the connection has done nothing yet: what the owner placed, replaced or cancelled
/// by itself stands.
/// @custom:stop Paused: no rule is registered or used. Revoking works.
/// @custom:trust The forecaster named in the rule is trusted for the forecast; it has to be committed before.
interface ITradingRules {
    struct Rule {
        bytes32 connectionId;
        /// Who may bring orders by this rule; zero: anyone.
        address agent;
        /// Whose committed forecasts count.
        address forecaster;
        /// Higher than that of any rule of the connection before.
        uint32 number;
        uint40 validFrom;
        uint40 validUntil;
        uint16 shareBps;
        /// Buys must be of green energy.
        bool greenOnly;
        int64[24] buyLimits;
        int64[24] sellLimits;
    }

    /// @notice Forecast of the connection's meter for the day that holds the session.
    struct Forecast {
        uint64 commitmentId;
        bytes32 meterId;
        /// `int32` net Wh per ISP of the commitment, as `Curves` packs a baseline.
        bytes values;
        bytes32[] proof;
    }

    event RuleRegistered(bytes32 indexed connectionId, address indexed owner, Rule rule);
    event RuleRevoked(bytes32 indexed connectionId, uint32 number);
    event PlacedByRule(
        uint64 indexed sessionId,
        bytes32 indexed connectionId,
        uint32 number,
        uint64 commitmentId,
        address agent
    );

    error RuleOutdated(bytes32 connectionId, uint32 number, uint32 latest);
    error RuleSignatureInvalid(bytes32 connectionId, address owner);
    error RuleNotInForce(bytes32 connectionId, uint32 number);
    error RuleNotValidNow(uint40 validFrom, uint40 validUntil, uint256 nowTs);
    error NotAgentOf(bytes32 connectionId, address caller, address agent);
    error NotOwnerOfRule(bytes32 connectionId, address caller);
    error OwnOrdersStand(uint64 sessionId, bytes32 connectionId);
    error ForecastNotUsable(uint64 commitmentId, address committer, address expected);
    error ForecastMismatch(bytes32 meterId, uint32 firstIsp, uint16 ispCount);
    /// @notice The connection traded ISPs of the session by the same forecast in another one.
    error ForecastTraded(bytes32 connectionId, uint64 commitmentId, uint256 firstIsp);
    error LimitBroken(uint256 position, int256 price, int256 limit);
    error NotGreen(uint256 position, uint256 product);
    error ShareExceeded(uint256 period, uint256 quantityWh, uint256 limitWh);

    /// @notice Puts a rule into force, in the place of the one before. Anyone may bring it with the owner's EIP-712
    /// signature of the rule (domain ("gridpact.rules", "1"), ERC-1271 too); the owner needs none.
    /// @dev Errors: `ConnectionUnknown`, {RuleOutdated}, {RuleSignatureInvalid}. Emits: {RuleRegistered}.
    function register(Rule calldata rule, bytes calldata signature) external;

    /// @notice Ends the rule of a connection. Only the owner. Emits: {RuleRevoked}.
    function revoke(bytes32 connectionId) external;

    /// @notice Places a bundle by the rule in force.
    /// @dev Errors: {RuleNotInForce}, {RuleNotValidNow}, {NotAgentOf}, {OwnOrdersStand}, {ForecastNotUsable},
    /// {ForecastMismatch}, `LeafNotCommitted`, {ForecastTraded}, {LimitBroken}, {NotGreen}, {ShareExceeded}, those of
    /// `IEnergyMarket.submit`. Emits: {PlacedByRule}.
    function place(Rule calldata rule, uint64 sessionId, bytes calldata bundle, Forecast calldata forecast) external;

    /// @notice Number of the latest rule of a connection, and whether it is in force.
    function ruleOf(bytes32 connectionId) external view returns (uint32 number, bool inForce);
}
