"""What runs of one process share: loaded backbones, data sets' tables and, without augmentation, their images."""

import json
from collections.abc import Mapping
from typing import Any

from src.backbones import Backbone
from src.data.module import ImageData
from src.data.table import Table

KEPT = 2
"""Backbones and data sets that are kept; the oldest goes first."""
OF_THE_RUN = ("batch_size", "workers", "same_epoch")
"""Keys of `data` that do not change what is read."""


class Warm:
    """Loads backbones and data sets once for runs that share them; a run in its company ends as one alone."""

    def __init__(self) -> None:
        self.backbones: dict[str, Backbone] = {}
        self.tables: dict[str, tuple[Table, dict[str, dict[int, Any]]]] = {}

    def backbone(self, config: Mapping[str, Any], load: Any) -> Backbone:
        """A backbone, which must be left as it is. load: how to load it the first time."""
        key = json.dumps(config["backbone"], sort_keys=True, default=str)
        if key not in self.backbones:
            self.backbones[key] = load()
            forget_oldest(self.backbones)
        return self.backbones[key]

    def share(self, config: Mapping[str, Any], data: ImageData) -> None:
        """Let a data module take over what another one with the same settings has read."""
        settings = {key: value for key, value in config["data"].items() if key not in OF_THE_RUN}
        key = json.dumps(settings, sort_keys=True, default=str)
        if key not in self.tables:
            self.tables[key] = (data.table, {})
            forget_oldest(self.tables)
        table, images = self.tables[key]
        data.take_over(table, images)


def forget_oldest(kept: dict[str, Any]) -> None:
    """Keep the newest of a mapping."""
    while len(kept) > KEPT:
        del kept[next(iter(kept))]
