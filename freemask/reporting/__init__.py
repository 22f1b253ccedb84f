"""Reports: tables, figures, sheets, cost."""
