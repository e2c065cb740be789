"""What a phone needs to run the same worker as this machine: layers put together here, pushed once."""
