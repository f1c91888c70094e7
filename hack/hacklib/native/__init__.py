"""Builds native/ with CMake: where the headers and compilers come from, and where the libraries go."""

from hacklib.native.build import PRESETS, Preset, build, output_dir

__all__ = ["PRESETS", "Preset", "build", "output_dir"]
