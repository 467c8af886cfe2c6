"""Command line: `python -m benchmarks NAME`, from the checkout."""

import argparse
import sys

from benchmarks import (
    checkpoint_stall,
    near_duplicates,
    pipeline,
    precisions,
    sample_index,
    tensor_parallel,
    tokenization,
    training,
)

BENCHMARKS = {
    "checkpoint-stall": checkpoint_stall,
    "near-duplicates": near_duplicates,
    "pipeline": pipeline,
    "precisions": precisions,
    "sample-index": sample_index,
    "tensor-parallel": tensor_parallel,
    "tokenization": tokenization,
    "training": training,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True)
    for name, module in BENCHMARKS.items():
        summary = (module.__doc__ or "").split("\n")[0]
        module.add_arguments(names.add_parser(name, help=summary, description=module.__doc__))
    arguments = parser.parse_args()
    BENCHMARKS[arguments.name].run(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
