"""Must never be imported."""

raise AssertionError("a class named by a run folder was imported")
