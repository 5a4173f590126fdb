"""The SDK and the agent beside a camera. No torch, no mm*, ever."""
