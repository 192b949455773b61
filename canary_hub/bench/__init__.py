"""Speed and memory of a stack on the CPU, also with random weights of full size.

Speed depends on the shapes and not on the values: a random checkpoint costs what the real one costs,
without its download. Every run is a process of its own, so that imports, loading and peak memory are those of a
fresh start.
"""

from .report import UNITS, Agreement, BenchReport, Measures
from .run import bench

__all__ = ["UNITS", "Agreement", "BenchReport", "Measures", "bench"]
