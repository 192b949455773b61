"""From a file or an array to samples, and to the pieces that are decoded."""
