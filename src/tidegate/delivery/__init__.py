"""A change to the platform itself on its way from a strategy document to a release; data have their own way (`wave`)."""
