"""The only room that imports Hydra: from arguments to a checked config, and from a config to objects."""
