"""From a `WeightsRef` to files, and from files to tensors."""
