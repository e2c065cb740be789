"""What it says: tables computed once from the journal, then drawn."""
