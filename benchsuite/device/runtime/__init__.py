"""What a phone needs to run the same worker as this machine: layers of files, put together here, pushed once."""
