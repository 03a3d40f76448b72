"""Our numbers against those of the authors' own code."""
