"""Agreements: their parties, their life, and the bonds locked for them."""

from offchain.audit.model import Agreement, AgreementStatus, Role
from offchain.audit.replay import Replay, at
from offchain.chain.events import Event

SUBJECT = "agreements"


def in_force(replay: Replay, agreement: Agreement, time: int) -> bool:
    """Whether orders can be issued under it."""
    terms = agreement.terms
    return (
        agreement.status is AgreementStatus.ACTIVE
        and terms["validFrom"] <= time < agreement.end
        and replay.model.has_role(terms["prosumer"], Role.PROSUMER)
        and replay.model.has_role(terms["aggregator"], Role.AGGREGATOR)
    )


def agreement_registered(replay: Replay, event: Event) -> None:
    args, model = event.args, replay.model
    agreement_id, terms, version = args["agreementId"], args["terms"], args["version"]
    where = at(event, f"agreement {agreement_id}")
    connection = replay.find(model.connections, terms["connectionId"], "connection")
    replay.rule(
        SUBJECT,
        "owner of the connection",
        where,
        connection.active and connection.owner == terms["prosumer"],
        terms["prosumer"],
        connection.owner if connection.active else "decommissioned",
    )
    replay.require_role(SUBJECT, terms["prosumer"], Role.PROSUMER, where)
    replay.require_role(SUBJECT, terms["aggregator"], Role.AGGREGATOR, where)
    replay.rule(
        SUBJECT,
        "validity",
        where,
        terms["validFrom"] < terms["validUntil"] and event.timestamp < terms["validUntil"],
        f"a period that ends after {event.timestamp}",
        f"{terms['validFrom']} to {terms['validUntil']}",
    )
    lock_id = replay.lock("AgreementRegistry", "bondLockId", agreement_id)
    if version == 1:
        replay.checks.equal(SUBJECT, "number of an agreement", where, len(model.agreements) + 1, agreement_id)
        other = model.agreements.get(connection.agreement_id)
        replay.rule(
            SUBJECT,
            "second agreement of a connection",
            where,
            other is None or event.timestamp >= other.end,
            f"agreement {connection.agreement_id} to be over",
            "in force",
        )
        model.agreements[agreement_id] = Agreement(terms, version)
        connection.agreement_id = agreement_id
        replay.pay(terms["prosumer"], lock_id, terms["bond"])
        return
    agreement = replay.find(model.agreements, agreement_id, "agreement")
    replay.checks.equal(SUBJECT, "version", where, agreement.version + 1, version)
    for party in ("connectionId", "prosumer", "aggregator"):
        replay.checks.equal(SUBJECT, f"{party} of an amendment", where, agreement.terms[party], terms[party])
    replay.rule(
        SUBJECT,
        "amendment in time",
        where,
        event.timestamp < agreement.end,
        f"before {agreement.end}",
        event.timestamp,
    )
    if terms["bond"] < agreement.terms["bond"]:
        hold = replay.setting("AgreementRegistry", "bondHoldSeconds")
        agreement.excess_held_until = event.timestamp + hold
    replay.pay(terms["prosumer"], lock_id, max(terms["bond"] - replay.expected_balance(lock_id), 0))
    agreement.terms, agreement.version = terms, version


def agreement_status_changed(replay: Replay, event: Event) -> None:
    args = event.args
    agreement = replay.find(replay.model.agreements, args["agreementId"], "agreement")
    status, by = AgreementStatus(args["status"]), args["by"]
    where = at(event, f"agreement {args['agreementId']}")
    parties = agreement.terms["prosumer"], agreement.terms["aggregator"]
    replay.rule(SUBJECT, "who changed an agreement", where, by in parties, "a party", by)
    replay.rule(
        SUBJECT,
        "change of an agreement",
        where,
        event.timestamp < agreement.end,
        f"before its end {agreement.end}",
        event.timestamp,
    )
    if status is AgreementStatus.TERMINATED:
        effect = event.timestamp + agreement.terms["terminationNoticeSeconds"]
        replay.checks.equal(SUBJECT, "effect of a termination", where, effect, args["endsAt"])
        replay.checks.equal(SUBJECT, "notices given before", where, 0, agreement.ends_at)
        agreement.ends_at = args["endsAt"]
    elif status is AgreementStatus.SUSPENDED:
        replay.checks.equal(SUBJECT, "status suspended", where, AgreementStatus.ACTIVE, agreement.status)
        agreement.status, agreement.suspended_by = status, by
    else:
        replay.checks.equal(SUBJECT, "who resumed", where, agreement.suspended_by, by)
        agreement.status, agreement.suspended_by = status, None


def availability_declared(replay: Replay, event: Event) -> None:
    agreement = replay.find(replay.model.agreements, event.args["agreementId"], "agreement")
    agreement.availability[event.args["dayFirstIsp"]] = event.args["isps"]


def bond_returned(replay: Replay, event: Event) -> None:
    args = event.args
    agreement = replay.find(replay.model.agreements, args["agreementId"], "agreement")
    where = at(event, f"agreement {args['agreementId']}")
    lock_id = replay.lock("AgreementRegistry", "bondLockId", args["agreementId"])
    left = replay.expected_balance(lock_id)
    free_at = agreement.end + replay.setting("AgreementRegistry", "bondHoldSeconds")
    if event.timestamp < free_at and left > agreement.terms["bond"]:
        free_at = agreement.excess_held_until
        left -= agreement.terms["bond"]
    replay.rule(SUBJECT, "bond returned", where, event.timestamp >= free_at, f"from {free_at}", event.timestamp)
    replay.checks.equal(SUBJECT, "receiver of a bond", where, agreement.terms["prosumer"], args["prosumer"])
    replay.checks.equal(SUBJECT, "bond returned", where, left, args["amount"])
    replay.pay(lock_id, agreement.terms["prosumer"], left)


HANDLERS = {
    ("AgreementRegistry", "AgreementRegistered"): agreement_registered,
    ("AgreementRegistry", "AgreementStatusChanged"): agreement_status_changed,
    ("AgreementRegistry", "AvailabilityDeclared"): availability_declared,
    ("AgreementRegistry", "BondReturned"): bond_returned,
}
