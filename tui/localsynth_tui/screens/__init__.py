"""The screens, one file each, in the order in which a table goes through them."""
