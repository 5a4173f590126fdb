"""The way home by MQTT: `uplink` sends what is spooled, `downlink` hears home, `window` says when to send again."""
