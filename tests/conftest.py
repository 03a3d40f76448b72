"""Before anything imports torch or the hub's client: one thread, so that numbers repeat, and no network."""

import os
import signal

# Started in the background, as by `nohup make test &`, Python ignores Ctrl-C, and so would every process of a test.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
