"""Where a model looks: maps, overlays, and how much of it falls on the object."""
