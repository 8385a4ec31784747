"""Offers, selection, disaggregation and direct control, solved by HiGHS in whole Wh."""
