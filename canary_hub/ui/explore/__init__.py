"""The Explore tab: how such a model is made."""
