"""What operators are: one row each. Readers ask for a column, never for a name."""
