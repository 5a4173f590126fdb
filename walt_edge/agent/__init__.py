"""The agent: one lane for each camera, and what they share.

`core` builds (with `parts` and `models`) and runs everything. A `lanes.Lane` keeps one `pipeline` going: camera ->
`gating` -> the model (`sight`, shared through `looking`) -> watcher (`eyes` is what is wanted of it) -> `outlet`
(selector, spool, uplink) and `showing` (`journal`, page). `telemetry` and `view` tell how all of it is doing,
`notify` tells systemd, `logs` and `hidden_argv` keep credentials to themselves; `replaying` runs the same chain over
a recording.
"""
