"""The experiments of section 4.1 and 4.2, at a size of choice: one file each."""
