"""Colors (red, green, blue; 0..255) of what a mask shows beside its classes, as in FreeMask's figures."""

IGNORED = (0, 0, 0)  # pixels without a class: never labelled, or outside the class table
FILTERED = (255, 255, 255)  # pixels that a filter rule set to the ignored label
