"""Before anything imports torch or the hub's client: one thread, so that numbers repeat, and no network."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
