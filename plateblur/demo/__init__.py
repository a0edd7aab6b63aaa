"""What `app.py` is built of: a visitor's photos in memory, the viewer, the guidance's sketches."""
