"""The kinds of classifiers, one a module, and `loading`, which tells them apart."""
