"""The tiny checkpoint that ships in the package."""
