"""Find licence plates in photos and make them unreadable."""
