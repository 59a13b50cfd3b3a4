//! Blend from the outside: the built binary, its HTTP edge and its files.
