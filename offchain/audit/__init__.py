"""Rebuilds every balance, verdict and payment from chain events and stored readings, and compares."""

from offchain.audit.auditor import audit
from offchain.audit.ports import ChainRecord, Query
from offchain.audit.report import AuditReport, Mismatch

__all__ = ["AuditReport", "ChainRecord", "Mismatch", "Query", "audit"]
