"""Links to a view of the page, and shared results as a page."""
