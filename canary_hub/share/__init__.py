"""Links that restore a view, and results that are kept under a link."""
