"""How photovoltaic plants age, and what that means for their generation in years and in the next hours."""
