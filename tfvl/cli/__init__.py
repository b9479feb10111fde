"""The command line, a file per command, each light to import. Imports everything below; only scripts import it."""
