"""Forecasts of net consumption per ISP, and the prognoses made of them."""
