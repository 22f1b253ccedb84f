"""Which synthetic pixels can be trusted: margin maps, filter rules, synthetic sets."""
