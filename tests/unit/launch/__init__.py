"""Launch profiles, jobs and the places that run them."""
