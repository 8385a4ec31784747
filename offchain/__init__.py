"""Off-chain services of gridpact: analytics, grid analysis, chain access, audit, pilot."""
