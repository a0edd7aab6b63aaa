"""The demo: a page on which a visitor's photos are blurred, kept in memory alone."""
