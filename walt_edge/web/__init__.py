"""The agent's page, health and metrics, served on the device.

Nothing here is imported unless the page is wanted. What it serves comes from one object, the `AgentView`
(`walt_edge.web.status`), and pixels come as `AnonymisedImage` alone. Requests pass `guard` (who may ask, how, and
what the answer's headers say) before `app` answers them; `server` runs both in a thread of its own.
"""
