"""Number of synthetic images per mask: class-wise loss, hardness, plans."""
