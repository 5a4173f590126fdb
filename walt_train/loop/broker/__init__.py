"""Home's connections to the MQTT broker."""
