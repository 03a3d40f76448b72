"""python -m src.demo [key=value ...]: all seven methods on digit scenes with the embedded backbone, offline.

Trains each (or returns the finished run), then prints one table and writes one picture of attention.
key=value goes to every run, such as trainer.max_epochs=3 or paths.runs=<folder>.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from src.records import UserError, complain

METHODS = ("linear", "finetune", "vpt", "lora", "toast", "toast_lite", "toast_late")


def main(arguments: Sequence[str]) -> int:
    """Run the demo; the exit code is that of `src.train`."""
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return 0
    try:
        from src.config.compose import compose_config

        configs = [compose_config([f"experiment=demo/{method}", *arguments]) for method in METHODS]
        from src.report.demo import demo_picture, demo_table, measure
        from src.training.console import console
        from src.training.run import run
        from src.training.saved import load_saved
        from src.training.signals import Stopped, leave
    except UserError as error:
        return complain(error)
    try:
        rows = []
        for config in configs:
            record = run(config)
            rows.append(measure(record, load_saved(Path(config["paths"]["runs"]) / record.name)))
        console.print(demo_table(rows))
        picture = Path(configs[0]["paths"]["runs"]) / "demo.png"
        demo_picture(rows, picture)
        console.print(f"where each method looks: {picture}", soft_wrap=True, highlight=False, markup=False)
    except UserError as error:
        return complain(error)
    except Stopped as error:
        return leave(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
