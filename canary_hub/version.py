"""The version of the package, which plugins and results are stamped with; the build reads it here."""

__version__ = "0.1.0"
