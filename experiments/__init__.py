"""Scripts that put the papers' claims to the test; they use the library, never the reverse."""
