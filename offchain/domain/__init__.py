"""Pure domain types: units, ISP calendar, packed curves, errors. Imports nothing of ours."""
