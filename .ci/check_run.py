"""Check what a training run left in its folder: finished, right data set, accurate enough, nothing missing.

    python .ci/check_run.py OUTPUT --dataset fashion_mnist --population-accuracy 0.84

OUTPUT is what the trainer was given as --output, and has to contain one run.
"""

import argparse
import json
from pathlib import Path

FILES = ("curves.png", "metrics.csv", "model.safetensors", "run.json")


def main() -> None:
    parser = argparse.ArgumentParser(description="check the folder of a training run")
    parser.add_argument("output", type=Path)
    parser.add_argument("--dataset", help="the data set that it has to be")
    parser.add_argument("--population-accuracy", type=float, help="the least that is enough")
    arguments = parser.parse_args()

    runs = list(arguments.output.iterdir())
    if len(runs) != 1:
        raise SystemExit(f"{arguments.output} must contain one run, it has {[run.name for run in runs]}")
    missing = [name for name in FILES if not (runs[0] / name).is_file()]
    if missing:
        raise SystemExit(f"{runs[0]} has no {', '.join(missing)}")
    run = json.loads((runs[0] / "run.json").read_text(encoding="utf-8"))
    if run["status"] != "finished":
        raise SystemExit(f"{runs[0]}: the run is not finished but {run['status']}")
    if arguments.dataset not in (None, run["dataset"]["name"]):
        raise SystemExit(f"{runs[0]}: trained on {run['dataset']['name']}, expected {arguments.dataset}")
    figures = run["figures"]
    title, loss = run["dataset"]["title"], figures["train_loss"]
    print(f"{title}: train loss {loss:.3f}, test acc {figures['test_acc']:.3f}")
    if arguments.population_accuracy is not None:
        reached, least = figures["population_test_acc"], arguments.population_accuracy
        print(f"population statistics: test acc {reached:.3f}, at least {least} is asked for")
        if not reached >= least:
            raise SystemExit("the test accuracy is too low")


if __name__ == "__main__":
    main()
