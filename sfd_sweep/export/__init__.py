"""From a trial to a folder that anyone can load: written, described, verified and registered."""
