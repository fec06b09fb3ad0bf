"""The reports of this project: one file each, one CSV each."""
