"""Where on a slice the evidence for a bleed lies: maps, their outlines, and how true they are."""
