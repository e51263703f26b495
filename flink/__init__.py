"""A Flink cluster of separate processes on this machine: `make flink`, `make flink-stop`."""
