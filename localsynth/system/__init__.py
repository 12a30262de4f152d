"""The machine: files, network seal, processor, optional packages."""
