"""The judge of a generator: how far its retained classes are from real images, and whether the forgotten are gone."""
