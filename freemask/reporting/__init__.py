"""What came out: tables, figures, sheets, cost."""
