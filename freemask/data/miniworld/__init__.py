"""A procedural data set in ADE20K's layout: small enough for a laptop, hard enough that the method's gain is real."""
