"""The demo's parts: a visitor's photos in memory, the viewer, the guidance's sketches."""
