"""The demo: a page that blurs photos and clips, and keeps a visitor's photos in memory."""
