"""The Compare tab: several stacks over one clip, side by side."""
