"""The jobs of this project: one file each, named in schedule.yaml."""
