"""The command line of hack/native.

Standard output is what was asked for (a directory, Pythons) and nothing else, so that scripts can use it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hacklib.native.build import PRESETS, build, output_dir
from hacklib.native.clients import client_python, groups
from hacklib.native.coverage import hook_report
from hacklib.native.fuzz import TARGETS, Result, fuzz
from hacklib.native.headers import cuda_include_dir
from hacklib.ui import Ui

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hack/native` with `argv`, by default the process's own; returns the exit status."""
    parser = argparse.ArgumentParser(prog="hack/native", description="Builds the C libraries of native/.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (("build", "build if needed, then print the output directory"), ("path", "print it only")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--preset", choices=PRESETS, default="release")
        if name == "build":
            command.add_argument("--target", action="append", help="build this CMake target only; repeatable")
    commands.add_parser("headers", help="fetch the CUDA and NVML headers if needed, then print their directory")
    commands.add_parser("clients", help="make the Python environments of the tests' clients, then print their Pythons")
    fuzzing = commands.add_parser("fuzz", help="fuzz the guard's parsers")
    fuzzing.add_argument("--seconds", type=float, default=60, help="for each target (60)")
    fuzzing.add_argument("--seed", type=int, default=1, help="another one makes other inputs (1)")
    fuzzing.add_argument("--target", choices=TARGETS, action="append", help="only this one; repeatable")
    coverage = commands.add_parser("coverage", help="count which of a driver's exported names the guard hooks")
    coverage.add_argument("--cuda-exports", type=Path, help="names of libcuda.so.1, by default those of driver 550")
    coverage.add_argument("--nvml-exports", type=Path, help="names of libnvidia-ml.so.1, likewise")
    arguments = parser.parse_args(argv)
    if arguments.command == "fuzz":
        results = [
            fuzz(name, seconds=arguments.seconds, seed=arguments.seed, ui=Ui()) for name in arguments.target or TARGETS
        ]
        return _report(results)
    if arguments.command == "coverage":
        sys.stdout.write(hook_report("coverage", cuda=arguments.cuda_exports, nvml=arguments.nvml_exports))
    elif arguments.command == "headers":
        sys.stdout.write(f"{cuda_include_dir(ui=Ui())}\n")
    elif arguments.command == "clients":
        for group in groups().values():
            sys.stdout.write(f"{group.lacking or client_python(group, ui=Ui())}\n")
    elif arguments.command == "build":
        sys.stdout.write(f"{build(preset=arguments.preset, ui=Ui(), targets=arguments.target or ())}\n")
    else:
        sys.stdout.write(f"{output_dir(arguments.preset)}\n")
    return 0


def _report(results: Sequence[Result]) -> int:
    for result in results:
        sys.stdout.write(f"{result.target}: {result.said}\n")
        if result.failure is not None:
            sys.stdout.write(f"{result.failure}\nthe input lies in {result.directory}\n")
    return int(any(result.failure is not None for result in results))
